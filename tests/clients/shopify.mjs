// SPDX-License-Identifier: Apache-2.0
// What Shopify sends, as its documentation tells it: several webhooks of one order, each with an id of its own in a header.
import { createHmac } from 'node:crypto'
import { base, post, run } from './lib.mjs'

await run((names) => Promise.all(names.map((name) => {
  const body = JSON.stringify({ id: 820982911946154508n.toString(), name: '#9999', note: name, line_items: [] })
  return post(base + '/v1/shopify?key=key', { body, headers: {
    'content-type': 'application/json',
    'x-shopify-topic': 'orders/updated',
    'x-shopify-shop-domain': 'alloy.myshopify.com',
    'x-shopify-webhook-id': `webhook-${name}`,
    'x-shopify-event-id': 'event-1',
    'x-shopify-hmac-sha256': createHmac('sha256', 'secret').update(body).digest('base64'),
  } })
})))
