import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { z } from 'zod'
import { makeAdmin } from '../lib/client/admin.js'
import { Answer, MeshClient } from '../lib/client/index.js'
import { tokenBatchSchema } from '../lib/protocol/generation.js'
import { inferenceRequestSchema, methods } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { namesIn as markedIn, readPage, rowsOf, sectionsOf } from './helpers/page.js'

/** docs/client.md against the client library's types and against the schemas of what it asks and gets. */

const page = readPage('client.md')
const sections = sectionsOf(page)

/** The first table of a section whose head begins with a word, as its rows. */
function table(head: string): string[][] {
  const [, body = ''] = page.split(new RegExp(`^\\| ${head} \\|.*\n\\|[-|]+\\|\n`, 'm'))
  const [rows = ''] = body.split('\n\n')
  if (rows === '') throw new Error(`The page has no table of ${head}`)
  return rowsOf(new Map([['', rows]]), '')
}

/** The names in a cell, without the mark of what may be absent. */
const namesIn = (cell?: string): string[] => markedIn(cell).map((name) => name.replace(/\?$/, ''))
/** The names in the first cells. */
const named = (rows: string[][]): string[] => rows.flatMap(([cell]) => namesIn(cell)).sort()

/** The fields of an interface that the client library gives, from its source: types are gone when this runs. */
function fieldsOf(name: string): string[] {
  const lib = join(PACKAGE_ROOT, 'lib')
  for (const file of ['client', 'protocol'].flatMap((room) =>
    readdirSync(join(lib, room)).map((one) => join(lib, room, one)),
  )) {
    const [, body] =
      new RegExp(`export interface ${name} \\{\n([\\s\\S]*?)\n\\}`).exec(readFileSync(file, 'utf8')) ?? []
    if (body !== undefined)
      return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??:/gm)].map(([, field = '']) => field).sort()
  }
  throw new Error(`lib has no interface ${name}`)
}

interface JsonSchema {
  properties?: Record<string, JsonSchema>
  required?: string[]
  items?: JsonSchema
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  const?: string
  enum?: string[]
}

const jsonOf = (schema: z.ZodType): JsonSchema =>
  z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema
const keysOf = ({ properties = {} }: JsonSchema = {}): string[] => Object.keys(properties).sort()
/** The names that a schema's alternatives have in a field. */
const alternatives = ({ anyOf = [], oneOf = [] }: JsonSchema = {}, field: string): string[] =>
  [...anyOf, ...oneOf].flatMap(({ properties }) => properties?.[field]?.const ?? [])

const requests = new Map((jsonOf(inferenceRequestSchema).oneOf ?? []).map((one) => [one.properties?.kind?.const, one]))
const chat = requests.get('chat') as JsonSchema
const completion = requests.get('completion') as JsonSchema

test('docs/client.md lists every option of a client and of a call', (t) => {
  t.alike(named(rowsOf(sections, 'Connecting')), fieldsOf('MeshClientOptions'))
  t.alike(named(rowsOf(sections, 'Options of every call')), fieldsOf('CallOptions'))
})

test('docs/client.md lists every field of a request, and where it belongs', (t) => {
  const expected = [...new Set([...keysOf(chat), ...keysOf(completion)])]
    .filter((field) => field !== 'kind')
    .map((field) => {
      const of = [keysOf(chat).includes(field) && 'chat', keysOf(completion).includes(field) && 'complete']
      return `${field} ${of.every(Boolean) ? 'both' : of.find(Boolean)}`
    })
  const rows = table('field')
  t.alike(rows.map(([name, of]) => `${namesIn(name)[0]} ${of}`).sort(), expected.sort())
  t.alike(named(table('sampling')), keysOf(chat.properties?.sampling))

  const format = rows.find(([name]) => name === '`format?`')?.at(2) ?? ''
  const types = alternatives(chat.properties?.format, 'type')
  t.ok(types.length > 0)
  t.alike(
    [...format.matchAll(/type: '(\w+)'/g)].map(([, type]) => type),
    types,
  )
  const tools = rows.find(([name]) => name === '`tools?`')?.at(2) ?? ''
  t.alike(namesIn(tools)[0]?.match(/\w+/g)?.sort(), keysOf(chat.properties?.tools?.items))

  const messages = chat.properties?.messages?.items?.oneOf ?? []
  t.ok(messages.length > 0)
  t.alike(
    table('message').map(([cell]) => cell?.match(/\w+/g)?.sort()),
    messages.map((one) => [...keysOf(one), one.properties?.role?.const].sort()),
  )
})

test('docs/client.md lists every field of an answer, and every reason', (t) => {
  const whole = jsonOf(methods.chat.response)
  const { finish } = whole.properties ?? {}
  const rows = table('of the whole')
  const expected = keysOf(whole).flatMap((field) =>
    field === 'finish' ? keysOf(finish).map((key) => `finish.${key}`) : field,
  )
  t.alike(named(rows), expected.sort())
  const about = (name: string) => namesIn(rows.find(([cell]) => namesIn(cell).includes(name))?.[1])
  t.alike(
    about('finish.reason')
      .filter((word) => word !== 'maxTokens')
      .sort(),
    [...(finish?.properties?.reason?.enum ?? [])].sort(),
  )
  for (const part of ['usage', 'timing', 'route']) {
    t.alike(about(`finish.${part}`).sort(), keysOf(finish?.properties?.[part]), part)
  }
  t.alike(about('toolCalls')[0]?.match(/\w+/g)?.sort(), keysOf(whole.properties?.toolCalls?.items))
  t.alike(about('logprobs').sort(), keysOf(whole.properties?.logprobs?.items))
  const batch = jsonOf(tokenBatchSchema)
  t.alike(named(table('of a batch')), keysOf(batch))
  const calls = table('of a batch').find(([name]) => name === '`calls?`')?.[1]
  t.alike(namesIn(calls)[0]?.match(/\w+/g)?.sort(), keysOf(batch.properties?.calls?.items))
  const embedding = namesIn(sections.get('`client.embed({ input, model? }, options?)`')?.split('The answer has')[1])
  t.alike(embedding.sort(), keysOf(jsonOf(methods.embed.response)))
})

/** Names with a `?` behind those that a schema does not require. */
const marksOf = (schema: JsonSchema = {}): string[] =>
  keysOf(schema).map((name) => (schema.required?.includes(name) ? name : `${name}?`))
/** The fields of the objects that a cell writes out, with their marks. */
const written = (cell?: string): string[] => (cell?.match(/\w+\??(?=[,: }])/g) ?? []).sort()

test('docs/client.md and the types say the same of which fields may be absent', (t) => {
  const rows = table('field')
  const marks = new Map(rows.map(([name = '', of = '']) => [`${markedIn(name)[0]} ${of}`, true]))
  for (const [kind, schema] of [
    ['chat', chat],
    ['complete', completion],
  ] as const) {
    const expected = marksOf(schema).filter((name) => name !== 'kind')
    for (const name of expected) t.ok(marks.has(`${name} both`) || marks.has(`${name} ${kind}`), `${kind}: ${name}`)
  }
  const marked = (all: string[][]): string[] => all.flatMap(([cell]) => markedIn(cell)).sort()
  t.alike(marked(table('sampling')), marksOf(chat.properties?.sampling).sort())
  const tools = rows.find(([name]) => name === '`tools?`')?.at(2) ?? ''
  t.alike(written(markedIn(tools)[0]), marksOf(chat.properties?.tools?.items).sort())
  t.alike(
    table('message').map(([cell]) => written(cell?.replace(/: '\w+'/, ''))),
    (chat.properties?.messages?.items?.oneOf ?? []).map((one) => marksOf(one).sort()),
  )
  const whole = jsonOf(methods.chat.response)
  const finish = marksOf(whole.properties?.finish).map((name) => `finish.${name}`)
  t.alike(marked(table('of the whole')), [...marksOf(whole).filter((name) => name !== 'finish'), ...finish].sort())
  for (const part of ['usage', 'timing', 'route']) {
    const [, about] = table('of the whole').find(([name]) => namesIn(name).includes(`finish.${part}`)) ?? []
    t.alike(markedIn(about).sort(), marksOf(whole.properties?.finish?.properties?.[part]).sort(), part)
  }
  const batch = jsonOf(tokenBatchSchema)
  t.alike(marked(table('of a batch')), marksOf(batch).sort())
  const calls = table('of a batch').find(([name]) => name === '`calls?`')?.[1]
  t.alike(written(markedIn(calls)[0]), marksOf(batch.properties?.calls?.items).sort())
})

test('docs/client.md names every method', (t) => {
  const own = (type: { prototype: object }) =>
    Object.getOwnPropertyNames(type.prototype).filter((name) => name !== 'constructor')
  for (const name of [...own(MeshClient), ...fieldsIn(MeshClient)])
    t.ok(page.includes(`client.${name}`) || page.includes(`MeshClient.${name}`), name)
  for (const name of own(Answer)) t.ok(page.includes(`answer.${name}`), `answer.${name}`)
  const ask = () => Promise.reject(new Error('nobody is asked'))
  const verbs = Object.entries(makeAdmin({ authority: ask, gateway: ask })).map(
    ([name, all]) => `${name}: ${Object.keys(all).join(' ')}`,
  )
  t.alike(
    table('`client.admin`').map(([name, all]) => `${namesIn(name)}: ${namesIn(all).join(' ')}`),
    verbs,
  )
})

/** The public fields that a client gets when it is made. */
function fieldsIn(type: { name: string }): string[] {
  const source = readFileSync(join(PACKAGE_ROOT, 'lib', 'client', 'client.ts'), 'utf8')
  const [, body = ''] = source.split(`export class ${type.name} `)
  return [...body.matchAll(/^ {2}readonly (\w+):/gm)].map(([, name = '']) => name)
}
