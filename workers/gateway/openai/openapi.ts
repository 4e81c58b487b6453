import { z } from 'zod'
import { chatBodySchema, completionBodySchema, embeddingBodySchema, responseBodySchema } from './bodies.js'

type Json = Record<string, unknown>

/** Paths and schemas that one part of the gateway adds to its OpenAPI document. */
export interface OpenApiPart {
  paths: Record<string, Json>
  schemas?: Json
}

const errorSchema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: {
        message: { type: 'string' },
        type: { type: 'string' },
        param: { type: ['string', 'null'], description: 'The parameter that is wrong, such as messages[2].role' },
        code: { type: ['string', 'null'], description: 'One of the codes of docs/errors.md, in lower case' },
      },
    },
  },
}

/** What a body looks like, from the very schema that it is checked against. */
function bodySchema(schema: z.ZodType): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return json
}

const ref = (name: string): Json => ({ $ref: `#/components/schemas/${name}` })
const json = (schema: Json): Json => ({ 'application/json': { schema } })
const failure = { description: 'What went wrong', content: json(ref('Error')) }
const object = (kind: string): Json => ({ type: 'object', properties: { object: { const: kind } } })

function answer(description: string, schema: Json, streams = false): Json {
  const content = { ...json(schema), ...(streams && { 'text/event-stream': { schema: { type: 'string' } } }) }
  return { responses: { 200: { description, content }, default: failure } }
}

function post(summary: string, body: string, answers: Json): Json {
  return { summary, tags: ['OpenAI'], requestBody: { required: true, content: json(ref(body)) }, ...answers }
}

function get(summary: string, answers: Json): Json {
  return { summary, tags: ['OpenAI'], ...answers }
}

const idParameter = [{ name: 'id', in: 'path', required: true, schema: { type: 'string' } }]

function openAiPart(): OpenApiPart {
  return {
    paths: {
      '/v1/chat/completions': {
        post: post('Answers a conversation', 'ChatBody', answer('The answer', object('chat.completion'), true)),
      },
      '/v1/completions': {
        post: post('Continues texts', 'CompletionBody', answer('The continuations', object('text_completion'), true)),
      },
      '/v1/embeddings': { post: post('Vectors of texts', 'EmbeddingBody', answer('The vectors', object('list'))) },
      '/v1/models': { get: get('The models that the key may use', answer('The models', object('list'))) },
      '/v1/models/{id}': {
        parameters: idParameter,
        get: get('One model; its id may have slashes', answer('The model', object('model'))),
      },
      '/v1/responses': {
        post: post(
          'Answers, and keeps the answer for a while',
          'ResponseBody',
          answer('The answer', object('response'), true),
        ),
      },
      '/v1/responses/{id}': {
        parameters: idParameter,
        get: get('A response that is still kept', answer('The response', object('response'))),
        delete: get('Forgets a response', answer('That it is forgotten', object('response'))),
      },
      '/v1/responses/{id}/input_items': {
        parameters: idParameter,
        get: get('What was sent with a response', answer('The items', object('list'))),
      },
      '/healthz': { get: open('Whether this process lives', '200') },
      '/readyz': { get: open('Whether this gateway can serve; 503 names what is missing', '200') },
    },
    schemas: {
      Error: errorSchema,
      ChatBody: bodySchema(chatBodySchema),
      CompletionBody: bodySchema(completionBodySchema),
      EmbeddingBody: bodySchema(embeddingBodySchema),
      ResponseBody: bodySchema(responseBodySchema),
    },
  }
}

function open(summary: string, status: string): Json {
  return { summary, tags: ['Health'], security: [], responses: { [status]: { description: 'Yes' } } }
}

/**
 * The OpenAPI 3.1 document of a gateway.
 * @param more what other parts of the gateway serve
 */
export function describeDoor(version: string, more: readonly OpenApiPart[] = []): Json {
  const parts = [openAiPart(), ...more]
  return {
    openapi: '3.1.0',
    info: {
      title: 'infermesh gateway',
      version,
      description: 'One private inference service from many machines. OpenAI clients work with the base URL `/v1`.',
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }],
    paths: Object.assign({}, ...parts.map(({ paths }) => paths)) as Json,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'An API key, such as im_…' },
      },
      schemas: Object.assign({}, ...parts.map(({ schemas }) => schemas ?? {})) as Json,
    },
  }
}

const escaped = (text: string): string => text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`)

/** The same for people: a page that loads nothing. */
export function docsPage(document: Json): string {
  const { info, paths } = document as { info: Record<string, string>; paths: Record<string, Record<string, Json>> }
  const rows = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item)
      .filter(([method]) => method !== 'parameters')
      .map(
        ([method, { summary = '' }]) =>
          `<tr><td><b>${method.toUpperCase()}</b></td><td><code>${escaped(path)}</code></td><td>${escaped(String(summary))}</td></tr>`,
      ),
  )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(info.title ?? '')}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td{border-top:1px solid #8884;padding:.3rem .8rem .3rem 0;vertical-align:top}
pre{background:#8882;padding:1rem;overflow:auto}</style></head><body>
<h1>${escaped(info.title ?? '')} ${escaped(info.version ?? '')}</h1>
<p>${escaped(info.description ?? '')} Each call wants the header <code>Authorization: Bearer im_…</code>.
The exact shapes are in <a href="/openapi.json">/openapi.json</a>.</p>
<pre>curl $BASE_URL/v1/chat/completions \\
  -H "Authorization: Bearer $INFERMESH_KEY" -H "Content-Type: application/json" \\
  -d '{"messages":[{"role":"user","content":"Hello!"}]}'</pre>
<table>${rows.join('\n')}</table>
</body></html>
`
}
