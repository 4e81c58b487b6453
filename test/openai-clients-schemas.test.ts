import { Ajv } from 'ajv'
import test from 'brittle'
import OpenAI from 'openai'
import { zodFunction, zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { z as z3 } from 'zod/v3'
import { startDoor } from './helpers/door.js'
import { checkedFetch } from './helpers/openai-schemas.js'
import { typed } from './helpers/openai-types.js'

/** The SDK's helpers for zod, with the schemas that people send: what comes back is what they ask for. */

const model = 'infermesh-tiny'
const messages = [{ role: 'user' as const, content: 'Fill in the form.' }]

/** Zod 4 and its older interface, which the SDK reads in another way. */
const SCHEMAS: Record<string, [newer: z.ZodType, older: z3.ZodTypeAny]> = {
  'ids, addresses and times': [
    z.object({
      id: z.uuid(),
      email: z.email().max(30),
      at: z.iso.datetime(),
      day: z.iso.date(),
      site: z.url().max(40),
      code: z
        .string()
        .regex(/^[A-Z]{2,4}-\d+$/)
        .max(9),
    }),
    z3.object({
      id: z3.string().uuid(),
      email: z3.string().email().max(30),
      at: z3.string().datetime(),
      day: z3.string().date(),
      site: z3.string().url().max(40),
      code: z3
        .string()
        .regex(/^[A-Z]{2,4}-\d+$/)
        .max(9),
    }),
  ],
  'numbers in their bounds': [
    z.object({
      age: z.int().min(0).max(120),
      share: z.number().min(0).max(1),
      even: z.int().min(0).max(60).multipleOf(12),
      size: z.literal(3),
    }),
    z3.object({
      age: z3.number().int().min(0).max(120),
      share: z3.number().min(0).max(1),
      even: z3.number().int().min(0).max(60).multipleOf(12),
      size: z3.literal(3),
    }),
  ],
  'a tagged union, lists and enums': [
    z.object({
      shapes: z
        .array(
          z.discriminatedUnion('kind', [
            z.object({ kind: z.literal('circle'), radius: z.int().min(1).max(9) }),
            z.object({ kind: z.literal('box'), width: z.int().max(9).min(0), colour: z.enum(['red', 'green']) }),
          ]),
        )
        .min(1)
        .max(2),
      tags: z.array(z.string().max(8)).max(3),
      value: z.union([z.string().max(8), z.int().min(0).max(99), z.boolean(), z.null()]),
    }),
    z3.object({
      shapes: z3
        .array(
          z3.discriminatedUnion('kind', [
            z3.object({ kind: z3.literal('circle'), radius: z3.number().int().min(1).max(9) }),
            z3.object({
              kind: z3.literal('box'),
              width: z3.number().int().max(9).min(0),
              colour: z3.enum(['red', 'green']),
            }),
          ]),
        )
        .min(1)
        .max(2),
      tags: z3.array(z3.string().max(8)).max(3),
      value: z3.union([z3.string().max(8), z3.number().int().min(0).max(99), z3.boolean(), z3.null()]),
    }),
  ],
  'what may be absent or null, within each other': [
    z.object({ a: z.object({ b: z.object({ c: z.string().max(5).nullish() }).nullish() }).nullish() }),
    z3.object({ a: z3.object({ b: z3.object({ c: z3.string().max(5).nullish() }).nullish() }).nullish() }),
  ],
  'a tree': [z.object({ root: z.lazy(() => tree) }), z3.object({ root: z3.lazy(() => olderTree) })],
}

interface Tree {
  name: 'oak' | 'elm'
  children: Tree[]
}
const tree: z.ZodType<Tree> = z.lazy(() => z.object({ name: z.enum(['oak', 'elm']), children: z.array(tree).max(1) }))
const olderTree: z3.ZodType<Tree> = z3.lazy(() =>
  z3.object({ name: z3.enum(['oak', 'elm']), children: z3.array(olderTree).max(1) }),
)

test('what the SDK makes of zod’s schemas is kept by the answers', { timeout: 180_000 }, async (t) => {
  const door = await startDoor(t)
  const checked = checkedFetch()
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: door.key, maxRetries: 0, fetch: checked.fetch })
  const asked = { model, messages, max_tokens: 900, seed: 3, temperature: 0.5 }
  for (const [what, both] of Object.entries(SCHEMAS)) {
    for (const [i, schema] of both.entries()) {
      const name = `${what}, ${i === 0 ? 'zod 4' : 'zod 3'}`
      const response_format = zodResponseFormat(schema, 'form')
      // The SDK itself reads what came by the schema, and throws where it does not fit.
      const parsed = await openai.chat.completions.parse({ ...asked, response_format })
      t.ok(
        schema.safeParse(parsed.choices[0]?.message.parsed).success,
        `${name}: ${parsed.choices[0]?.message.content}`,
      )
      const stream = openai.chat.completions.stream({ ...asked, response_format })
      const last = await stream.finalChatCompletion()
      t.ok(schema.safeParse(last.choices[0]?.message.parsed).success, `${name}, streamed`)
      const response = await openai.responses.parse({
        model,
        input: 'Fill in the form.',
        max_output_tokens: 900,
        text: { format: zodTextFormat(schema, 'form') },
      })
      t.ok(schema.safeParse(response.output_parsed).success, `${name}, as a response`)
      const call = await openai.chat.completions.parse({
        ...asked,
        tools: [zodFunction({ name: 'fill', parameters: schema })],
        tool_choice: 'required',
        parallel_tool_calls: false,
      })
      const args = call.choices[0]?.message.tool_calls?.[0]?.function.parsed_arguments
      t.ok(schema.safeParse(args).success, `${name}, as a tool: ${JSON.stringify(args)}`)
    }
  }
  const { faults, checked: count } = await checked.faults()
  t.alike(faults, [], `${count} answers were checked`)
  t.comment(`${typed.looked} objects, ${typed.fit} are of OpenAI’s types`)
})

/** As pydantic writes a model's schema: every kind under $defs, what may be absent with its default, formats and titles. */
const PYDANTIC = {
  $defs: {
    Priority: { enum: ['low', 'high'], title: 'Priority', type: 'string' },
    Card: {
      properties: {
        kind: { const: 'card', default: 'card', title: 'Kind', type: 'string' },
        digits: { maxLength: 4, minLength: 4, pattern: '^[0-9]+$', title: 'Digits', type: 'string' },
      },
      required: ['digits'],
      title: 'Card',
      type: 'object',
    },
    Cash: {
      properties: {
        kind: { const: 'cash', title: 'Kind', type: 'string' },
        coins: { title: 'Coins', type: 'integer', exclusiveMinimum: 0, maximum: 50 },
      },
      required: ['kind', 'coins'],
      title: 'Cash',
      type: 'object',
    },
  },
  properties: {
    id: { format: 'uuid', title: 'Id', type: 'string' },
    site: { format: 'uri', maxLength: 40, minLength: 1, title: 'Site', type: 'string' },
    at: { format: 'date-time', title: 'At', type: 'string' },
    tags: {
      items: { enum: ['a', 'b', 'c'], type: 'string' },
      maxItems: 3,
      title: 'Tags',
      type: 'array',
      uniqueItems: true,
    },
    price: {
      anyOf: [
        { maximum: 99, minimum: 0, type: 'number' },
        { maxLength: 6, pattern: '^\\d+\\.\\d{2}$', type: 'string' },
      ],
      title: 'Price',
    },
    count: { maximum: 9, minimum: 1, title: 'Count', type: 'integer' },
    note: { anyOf: [{ maxLength: 8, type: 'string' }, { type: 'null' }], default: null, title: 'Note' },
    mode: { const: 'fast', title: 'Mode', type: 'string' },
    priority: { $ref: '#/$defs/Priority' },
    payment: {
      discriminator: { mapping: { card: '#/$defs/Card', cash: '#/$defs/Cash' }, propertyName: 'kind' },
      oneOf: [{ $ref: '#/$defs/Card' }, { $ref: '#/$defs/Cash' }],
      title: 'Payment',
    },
  },
  required: ['id', 'site', 'at', 'tags', 'price', 'count', 'mode', 'priority', 'payment'],
  title: 'Order',
  type: 'object',
}

test('a schema as pydantic writes it is kept', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: door.key, maxRetries: 0 })
  const ajv = new Ajv({ strict: false, discriminator: false, validateFormats: false })
  const fits = ajv.compile(PYDANTIC)
  for (const seed of [1, 2, 3]) {
    const { choices } = await openai.chat.completions.create({
      model,
      messages,
      seed,
      max_tokens: 900,
      response_format: { type: 'json_schema', json_schema: { name: 'order', schema: PYDANTIC } },
    })
    const text = choices[0]?.message.content ?? ''
    t.is(choices[0]?.finish_reason, 'stop', text)
    const order = JSON.parse(text) as { id: string; site: string; at: string }
    t.ok(fits(order), `${ajv.errorsText(fits.errors)}: ${text}`)
    t.ok(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(order.id), order.id)
    t.ok(URL.canParse(order.site), order.site)
    t.ok(z.iso.datetime().safeParse(order.at).success, order.at)
  }
})
