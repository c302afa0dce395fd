// SPDX-License-Identifier: Apache-2.0
import Stripe from 'stripe'
import { base, post, prefix, run } from './lib.mjs'

const stripe = new Stripe('sk_test_key')
const secret = 'whsec_test'

// What Stripe posts to a webhook, signed with the SDK's own helper; Stripe sends it again until it is answered 2xx.
await run((names) => Promise.all(names.map((name) => {
  const payload = JSON.stringify({ id: `evt_${name}`, object: 'event', type: name, data: { object: { id: 'cus_1' } } }, null, 2)
  const signature = stripe.webhooks.generateTestHeaderString({ payload, secret })
  return post(base + '/v1/stripe?key=key', { body: payload, headers: { 'content-type': 'application/json', 'stripe-signature': signature } })
})))
