// SPDX-License-Identifier: Apache-2.0
// Posts the examples of @octokit/webhooks-examples (its folder is in WEBHOOKS_EXAMPLES) as GitHub does: the id of a
// delivery is in a header and stays when it is delivered again.
import { readFileSync } from 'node:fs'
import { base, post, run } from './lib.mjs'

const examples = JSON.parse(readFileSync(`${process.env.WEBHOOKS_EXAMPLES}/api.github.com/index.json`))
  .flatMap(({ name, examples }) => examples.map((payload) => ({ name, payload })))

await run((names) => Promise.all(names.map((delivery) => {
  const { name, payload } = examples[delivery.split('-').pop() % examples.length]
  return post(base + '/v1/github?key=key', {
    body: JSON.stringify(payload),
    headers: { 'content-type': 'application/json', 'x-github-event': name, 'x-github-delivery': delivery, 'user-agent': 'GitHub-Hookshot/1' },
  })
})))
