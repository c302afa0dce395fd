// SPDX-License-Identifier: Apache-2.0
import { Analytics } from '@segment/analytics-node'
import { base, run } from './lib.mjs'

const analytics = new Analytics({ writeKey: 'key', host: base })

await run(async (names) => {
  const delivered = names.map((event) => new Promise((resolve, reject) =>
    analytics.track({ userId: 'me', event }, (error) => (error ? reject(error) : resolve()))))
  await analytics.flush()
  await Promise.all(delivered)
})
