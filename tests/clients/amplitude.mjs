// SPDX-License-Identifier: Apache-2.0
import { createInstance } from '@amplitude/analytics-node'
import { base, run } from './lib.mjs'

const amplitude = createInstance()
await amplitude.init('key', { serverUrl: base + '/2/httpapi', flushIntervalMillis: 200, logLevel: 0 }).promise

// When it loses the connection the SDK drops the events and tells: they are tracked again, with the same insert_id.
async function deliver(event) {
  for (;;) {
    const result = await amplitude.track(event).promise
    if (result.code === 200) return
    event = result.event
  }
}

await run((names) => Promise.all(names.map((name) => deliver({ event_type: name, user_id: 'user-1' }))))
