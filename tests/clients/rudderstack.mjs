// SPDX-License-Identifier: Apache-2.0
import Analytics from '@rudderstack/rudder-sdk-node'
import { base, run } from './lib.mjs'

// By default it gives up after 3 attempts in about 1.5 s.
const analytics = new Analytics('key', { dataPlaneUrl: base, gzip: false, retryCount: 10, logLevel: 'none' })

await run(async (names) => {
  const delivered = names.map((event) => new Promise((resolve, reject) =>
    analytics.track({ userId: 'me', event }, (error) => (error ? reject(error) : resolve()))))
  await analytics.flush()
  await Promise.all(delivered)
})
