// SPDX-License-Identifier: Apache-2.0
import { newTracker, buildStructEvent } from '@snowplow/node-tracker'
import { base, run } from './lib.mjs'

const delivered = new Set()
const tracker = newTracker({ namespace: 'n', appId: 'alloy' }, {
  endpoint: base,
  bufferSize: 5,
  customHeaders: { 'X-Api-Key': 'key' },
  onRequestSuccess: (events) => events.forEach((event) => delivered.add(event.se_ac)),
})

await run(async (names) => {
  names.forEach((action) => tracker.track(buildStructEvent({ category: 'test', action })))
  while (!names.every((name) => delivered.has(name))) {
    await tracker.flush()
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
})
