// SPDX-License-Identifier: Apache-2.0
import { jitsuAnalytics } from '@jitsu/js'
import { base, fetchAgain, run } from './lib.mjs'

// The SDK does not try again, but takes a fetch() that does.
const analytics = jitsuAnalytics({ host: base, writeKey: 'id:secret', fetch: fetchAgain })

await run((names) => Promise.all(names.map((name) => analytics.track(name))))
