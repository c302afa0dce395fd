// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto'
import Mixpanel from 'mixpanel'
import { base, run } from './lib.mjs'

const { hostname, port } = new URL(base)
const mixpanel = Mixpanel.init('token', { protocol: 'http', host: hostname, port })

// The SDK neither tries again nor gives ids.
async function again(send) {
  for (;;) {
    const error = await new Promise((resolve) => send(resolve))
    if (!error) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

await run(async (names) => {
  const [one, ...many] = names
  const properties = () => ({ distinct_id: 'me', $insert_id: randomUUID() })
  const first = properties()
  const batch = many.map((event) => ({ event, properties: properties() }))
  await Promise.all([
    again((done) => mixpanel.track(one, first, done)),
    again((done) => mixpanel.track_batch(batch, (errors) => done(errors?.[0]))),
  ])
})
