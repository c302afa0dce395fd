// SPDX-License-Identifier: Apache-2.0
// What Svix sends: webhooks signed by its own library. The second half comes as Standard Webhooks names the headers.
import { Webhook } from 'svix'
import { base, post, run } from './lib.mjs'

const webhook = new Webhook('whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD')
let standard = false

await run(async (names) => {
  const prefix = standard ? 'webhook' : 'svix'
  standard = true
  await Promise.all(names.map((name) => {
    const body = JSON.stringify({ type: 'user.created', data: { name } })
    const now = new Date()
    return post(base + '/v1/svix?key=key', { body, headers: {
      'content-type': 'application/json',
      [`${prefix}-id`]: `msg_${name}`,
      [`${prefix}-timestamp`]: String(Math.floor(now / 1000)),
      [`${prefix}-signature`]: webhook.sign(`msg_${name}`, now, body),
    } })
  }))
})
