// SPDX-License-Identifier: Apache-2.0
// Runs a client in Chromium: a page of another origin than alloyd's, with the SDK's script.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { gunzipSync } from 'node:zlib'
import { chromium } from 'playwright-core'
import { run } from './lib.mjs'

const { resolve } = createRequire(import.meta.url)

// The page has the script of a package, if there is one, and runs setup(argument). Returns Playwright's page.
export async function openPage(script, setup, argument) {
  const server = createServer((request, answer) => {
    const found = { '/': '<!doctype html><meta charset=utf-8><title>Test</title>', '/sdk.js': script && readFileSync(resolve(script)) }[request.url]
    answer.writeHead(found ? 200 : 404, { 'content-type': request.url === '/' ? 'text/html' : 'text/javascript' })
    answer.end(found)
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium' })
  const page = await browser.newPage()
  page.on('pageerror', (error) => console.error(error))
  page.on('console', (message) => console.error(message.text()))
  await page.goto(`http://localhost:${server.address().port}/`)
  if (script) await page.addScriptTag({ url: '/sdk.js' })
  await page.evaluate(setup, argument)
  return page
}

function textOf(body) {
  if (body?.[0] === 0x1f && body[1] === 0x8b) return gunzipSync(body).toString()
  const text = body?.toString() ?? ''
  return text.startsWith('data=') ? Buffer.from(decodeURIComponent(text.slice(5)), 'base64').toString() : text
}

// Calls track(names) in the page, and flush() each second where the SDK needs that to try again. An event is delivered
// when the browser has a 2xx for a request that holds its name.
export function runInPage(page, track, flush) {
  const waiting = new Map()
  page.on('requestfinished', async (request) => {
    const answer = await request.response()
    if (request.method() !== 'POST' || !answer.ok()) return
    const text = textOf(request.postDataBuffer())
    for (const [name, done] of waiting) if (text.includes(`"${name}"`)) done()
  })
  return run((names) => {
    const delivered = names.map((name) => new Promise((done) => waiting.set(name, done)))
    const timer = flush && setInterval(() => page.evaluate(flush), 1000)
    return Promise.all([page.evaluate(track, names), ...delivered]).finally(() => clearInterval(timer))
  })
}
