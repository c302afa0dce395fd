// SPDX-License-Identifier: Apache-2.0
// Has a page define what the file of the first argument does, and call its send() once.
import { readFileSync } from 'node:fs'
import { openPage } from './browser.mjs'

const page = await openPage(null, () => {})
await page.addScriptTag({ content: readFileSync(process.argv[2], 'utf8') })
if (!await page.evaluate(() => send([{ event_id: crypto.randomUUID() }]))) throw new Error('refused')
process.exit(0)
