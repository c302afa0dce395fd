// SPDX-License-Identifier: Apache-2.0
import { base } from './lib.mjs'
import { openPage, runInPage } from './browser.mjs'

const page = await openPage('@segment/analytics-next/dist/umd/index.js', (apiHost) => {
  globalThis.analytics = globalThis.AnalyticsNext.AnalyticsBrowser.load({
    writeKey: 'key',
    cdnSettings: { integrations: { 'Segment.io': { apiKey: 'key', apiHost, protocol: 'http' } } },
  })
}, `${new URL(base).host}/v1`)

await runInPage(page, (names) => names.forEach((name) => globalThis.analytics.track(name)))
