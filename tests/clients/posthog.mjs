// SPDX-License-Identifier: Apache-2.0
import { PostHog } from 'posthog-node'
import { base, run } from './lib.mjs'

const posthog = new PostHog('phc_key', { host: base, disableCompression: true })

await run(async (names) => {
  const delivered = new Set()
  const stop = posthog.on('flush', (events) => events.forEach((e) => delivered.add(e.event)))
  names.forEach((event) => posthog.capture({ distinctId: 'me', event }))
  while (!names.every((name) => delivered.has(name))) await posthog.flush()
  stop()
})
