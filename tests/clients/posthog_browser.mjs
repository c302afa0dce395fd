// SPDX-License-Identifier: Apache-2.0
import { base } from './lib.mjs'
import { openPage, runInPage } from './browser.mjs'

const page = await openPage('posthog-js/dist/array.full.no-external.js', (base) => {
  globalThis.posthog.init('phc_key', { api_host: base, opt_out_useragent_filter: true }) // Chromium without a window counts as a bot
}, base)

await runInPage(page, (names) => names.forEach((name) => globalThis.posthog.capture(name)))
