// SPDX-License-Identifier: Apache-2.0
// What the clients have in common: node CLIENT.mjs BASE COUNT PREFIX sends COUNT events whose names are PREFIX-0,
// PREFIX-1, ... to the alloyd at BASE. A line of JSON tells each event that the SDK takes for delivered. Half way
// the client says so and waits for a line (or the end) of its standard input.
import { once } from 'node:events'

export const [base, count, prefix] = [process.argv[2], Number(process.argv[3]), process.argv[4]]

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

// Calls send(names) twice, each time with half of the names. It returns when they are delivered, or throws.
export async function run(send) {
  const names = Array.from({ length: count }, (_, i) => `${prefix}-${i}`)
  const half = Math.ceil(count / 2)
  await send(names.slice(0, half))
  names.slice(0, half).forEach((delivered) => say({ delivered }))
  say({ half })
  await Promise.race([once(process.stdin, 'data'), once(process.stdin, 'end')])
  await send(names.slice(half))
  names.slice(half).forEach((delivered) => say({ delivered }))
  process.exit(0)
}

// fetch() for SDKs and programs that do not try again by themselves: the same request, with the same id, until there
// is an answer that is not 429 or 5xx.
export async function fetchAgain(url, options) {
  for (let wait = 100; ; wait = Math.min(wait * 2, 10_000)) {
    const answer = await fetch(url, options).catch((error) => ({ status: 503, error }))
    if (answer.status !== 429 && answer.status < 500) return answer
    const after = answer.headers?.get('retry-after')
    await new Promise((resolve) => setTimeout(resolve, after ? after * 1000 : wait * (0.5 + Math.random())))
  }
}

// The same, for a program that wants to know: throws when it was refused.
export async function post(url, options) {
  const answer = await fetchAgain(url, { method: 'POST', ...options })
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`)
  return answer
}
