// SPDX-License-Identifier: Apache-2.0
import { CloudEvent, HTTP, Mode } from 'cloudevents'
import { base, post, run } from './lib.mjs'

const url = base + '/v1/cloudevents?key=key'
const event = (name) => new CloudEvent({ type: 'test', source: '/tests', subject: name, data: { id: 'of the data', name } })

await run(async (names) => {
  const third = Math.ceil(names.length / 3)
  const batch = names.slice(0, third).map((name) => HTTP.structured(event(name)).body)
  const sent = names.slice(third).map((name, i) => (i % 2 ? HTTP.binary : HTTP.structured)(event(name)))
  await Promise.all([
    post(url, { headers: { 'content-type': 'application/cloudevents-batch+json' }, body: `[${batch}]` }),
    ...sent.map(({ headers, body }) => post(url, { headers, body })),
  ])
})
