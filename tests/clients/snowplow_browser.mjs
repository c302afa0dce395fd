// SPDX-License-Identifier: Apache-2.0
import { base } from './lib.mjs'
import { openPage, runInPage } from './browser.mjs'

const page = await openPage('@snowplow/browser-tracker/dist/index.umd.min.js', (base) => {
  globalThis.snowplowBrowserTracking.newTracker('sp', base, { appId: 'alloy', customHeaders: { 'X-Api-Key': 'key' } })
}, base)

// What was not delivered waits in localStorage until the next event, the next page or a flush.
await runInPage(page,
  (names) => names.forEach((action) => globalThis.snowplowBrowserTracking.trackStructEvent({ category: 'test', action })),
  () => globalThis.snowplowBrowserTracking.flushBuffer())
