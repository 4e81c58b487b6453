import test from 'brittle'
import { startDoor } from './helpers/door.js'
import { namesIn, readPage, rowsOf, sectionsOf } from './helpers/page.js'

/** What docs/openai.md says of routes, headers and bounds, tried at the door. A row that is not tried here fails. */

const page = readPage('openai.md')
const sections = sectionsOf(page)
const CHAT = '/v1/chat/completions'
const user = (content: string) => [{ role: 'user', content }]

interface Failure {
  error?: { code: string; param: string | null; message: string }
}

test('each route of the table answers its methods, and no others', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const rows = rowsOf(sectionsOf(page.split('## Parameters')[0] ?? ''), 'The OpenAI door')
  const listed = rows.flatMap(([cell]) => namesIn(cell))
  const methods = new Map<string, string[]>()
  for (const row of listed) {
    const [method = '', path = ''] = row.split(' ')
    methods.set(path, [...(methods.get(path) ?? []), method])
  }
  t.ok(methods.size > 8, `${methods.size} paths`)
  const stored = await door.ask('/v1/responses', { input: 'Hi', max_output_tokens: 2 })
  const { id } = (await stored.json()) as { id: string }
  for (const [path, allowed] of methods) {
    const url = path.replace('{id}', path.startsWith('/v1/models') ? 'infermesh-tiny' : id)
    for (const one of [url, url.replace(/^\/v1/, '')]) {
      for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) {
        // What is deleted is gone for the rows below.
        if (method === 'DELETE' && allowed.includes(method)) continue
        const response = await door.ask(one, undefined, { method })
        const { error } = (await response.json()) as Failure
        if (method === 'GET' && allowed.includes(method) && path.startsWith('/v1/responses/{id}'))
          t.is(response.status, 200, `${method} ${one}`)
        // Without a body what reads one says that it is empty; another id than a response's is not found.
        else if (allowed.includes(method)) {
          const right = method === 'GET' ? [200, 404] : [400, 415]
          t.ok(right.includes(response.status), `${method} ${one}: ${response.status}`)
        } else if (path === '/v1/responses/input_tokens' && methods.get('/v1/responses/{id}')?.includes(method)) {
          t.is(response.status, 404, `${method} ${one}: no response has this id`)
        } else {
          t.is(`${response.status} ${error?.code}`, '405 method_not_allowed', `${method} ${one}`)
          for (const has of allowed) t.ok(response.headers.get('allow')?.includes(has), `${one} tells of ${has}`)
        }
      }
    }
  }
  t.is((await door.ask(`/v1/responses/${id}`, undefined, { method: 'DELETE' })).status, 200)
  t.is((await door.ask(`/v1/responses/${id}`, undefined, { method: 'DELETE' })).status, 404)

  const instead = namesIn(/[^.]* are answered with 404 and the path to use/.exec(page)?.[0])
  t.is(instead.length, 3)
  for (const path of instead) {
    const response = await door.ask(path, { prompt: 'x', content: 'x' })
    const { error } = (await response.json()) as Failure
    t.ok(response.status === 404 && /ask POST \/v1\/\w+$/.test(error?.message ?? ''), `${path}: ${error?.message}`)
    t.is((await fetch(door.url + path, { method: 'POST' })).status, 401, 'whoever has no key is told nothing')
  }
})

test('each header of the table is where the page says', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const ask = (key: string) => {
    const headers = { authorization: `Bearer ${key}` }
    return door.ask(CHAT, { messages: user('Hi'), max_tokens: 1 }, { headers })
  }
  const once = await door.newKey({ requestsPerMinute: 1, tokensPerMinute: 100_000 })
  const poor = await door.newKey({ budget: { tokens: 1, period: 'day' } })
  const [within, beyond] = [await ask(once), await ask(once)]
  t.is(beyond.status, 429)
  const samples: Record<string, Response> = {
    'x-request-id': within,
    'openai-processing-ms': within,
    'x-ratelimit-limit-requests': within,
    'retry-after': beyond,
    'x-should-retry: false': await ask(poor),
  }
  for (const [cell = ''] of rowsOf(sections, 'Errors')) {
    const names = namesIn(cell)
    const answer = samples[names[0] ?? '']
    t.ok(answer, `${cell} is tried here`)
    const rates = ['limit', 'remaining', 'reset'].flatMap((what) =>
      ['requests', 'tokens'].map((of) => `x-ratelimit-${what}-${of}`),
    )
    for (const header of cell.includes('x-ratelimit') ? rates : names) {
      const [name = '', value] = header.split(': ')
      const given = answer?.headers.get(name)
      t.ok(value === undefined ? given : given === value, `${header}: ${given}`)
    }
  }
})

test('each bound of a body is one', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const object = (count: number) => `{${Array.from({ length: count }, (_, i) => `"${i}":0`).join()}}`
  const beside = (field: string) => `{"messages":[{"role":"user","content":"Hi"}],"max_tokens":1,"x":${field}}`
  const many = (count: number) => JSON.stringify({ messages: Array(count).fill({ role: 'user', content: 'x' }) })
  /** By the words of the page: a body beyond it, and what is said of that. */
  const samples: Record<string, [path: string, body: string, answer: RegExp]> = {
    '2 MiB': [CHAT, beside(`"${'x'.repeat(2 * 1024 * 1024)}"`), /^413 null .*2097152/],
    '8 MiB': ['/v1/embeddings', `{"input":"${'x'.repeat(8 * 1024 * 1024)}"}`, /^413 null .*8388608/],
    '128 deep': [CHAT, beside('['.repeat(128) + ']'.repeat(128)), /^400 null .*128/],
    '10,000 messages': [CHAT, many(10_001), /^400 messages .*10000/],
    '300,000 token ids': ['/v1/embeddings', JSON.stringify({ input: Array(300_001).fill(5) }), /^400 input .*300000/],
    '1,024 entries': [CHAT, beside(`0,"logit_bias":${object(1025)}`), /^400 logit_bias .*1024/],
    '400,000 values': [CHAT, beside(`[${'0,'.repeat(400_000)}0]`), /^400 null .*400000 values/],
    '65,536 keys': [CHAT, beside(`[${Array(66).fill(object(1000)).join()}]`), /^400 null .*65536 keys/],
    '16,384 of them': [CHAT, beside(object(16_500)), /^400 null .*16384 different/],
  }
  const section = sections.get('Bounds')?.split('\n### ')[0]?.replaceAll('\n', ' ') ?? ''
  // How what is refused is read, which stands between the two, is tried by the tests of HTTP.
  const told = [/Bodies are JSON objects[^.]*\./, /Bodies nest at most.*$/]
    .map((part) => part.exec(section)?.[0])
    .join(' ')
  for (const [number] of told.matchAll(/\d[\d,]*/g)) {
    t.ok(
      Object.keys(samples).some((one) => one.startsWith(`${number} `)),
      `${number} is tried here`,
    )
  }
  for (const [bound, [path, body, answer]] of Object.entries(samples)) {
    t.ok(told.includes(bound), `the page tells of ${bound}`)
    const response = await door.ask(path, body)
    const { error } = (await response.json()) as Failure
    const said = `${response.status} ${error?.param} ${error?.message}`
    t.ok(answer.test(said), `${bound}: ${said.slice(0, 200)}`)
  }
  for (const body of ['{"messages":[],"messages":[]}', beside('{"__proto__":1}')]) {
    t.is((await door.ask(CHAT, body)).status, 400, body.slice(-30))
  }
})
