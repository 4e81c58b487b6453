import { z } from 'zod'
import { KEY_HEADERS } from '../../../lib/protocol/index.js'

/** The gateway's OpenAPI document and the page made of it: each door adds its part. */

export type Json = Record<string, unknown>

/** Paths and schemas that one part of the gateway adds to the document. */
export interface OpenApiPart {
  paths: Record<string, Json>
  schemas?: Json
}

export interface OpenApiDocument {
  openapi: '3.1.0'
  info: { title: string; version: string; description: string }
  servers: { url: string }[]
  security: Json[]
  paths: Record<string, Json>
  components: { securitySchemes: Json; schemas: Json }
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

/** What is read or written, from the very schema that it is checked against. */
export function jsonSchema(schema: z.core.$ZodType, io: 'input' | 'output') {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' })
  return rest
}

export const ref = (name: string): Json => ({ $ref: `#/components/schemas/${name}` })
export const jsonContent = (schema: Json): Json => ({ 'application/json': { schema } })
export const errorContent = jsonContent(ref('Error'))

/** The OpenAPI 3.1 document of a gateway that serves these parts. Each wants the credential unless it says otherwise. */
export function openApiDocument(version: string, parts: readonly OpenApiPart[]): OpenApiDocument {
  return {
    openapi: '3.1.0',
    info: {
      title: 'infermesh gateway',
      version,
      description:
        'One private inference service from many machines. OpenAI clients work with the base URL `/v1`; the paths that begin with it are served without it as well.',
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }, ...KEY_HEADERS.map((name) => ({ [name]: [] }))],
    paths: joined(parts.map(({ paths }) => paths)),
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'An API key, such as im_…' },
        ...Object.fromEntries(KEY_HEADERS.map((name) => [name, { type: 'apiKey', in: 'header', name }])),
      },
      schemas: joined([{ Error: errorSchema }, ...parts.map(({ schemas }) => schemas ?? {})]),
    },
  }
}

function joined<T>(parts: readonly Record<string, T>[]): Record<string, T> {
  return Object.fromEntries(parts.flatMap((part) => Object.entries(part)))
}

const escaped = (text: string): string => text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`)

/** What an operation says of itself in one line. */
function summaryOf(operation: unknown): string {
  const summary = typeof operation === 'object' && operation !== null && 'summary' in operation && operation.summary
  return typeof summary === 'string' ? summary : ''
}

/** The same for people: a page that loads nothing. */
export function docsPage({ info, paths }: OpenApiDocument): string {
  const rows = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item)
      .filter(([method]) => method !== 'parameters')
      .map(
        ([method, operation]) =>
          `<tr><td><b>${method.toUpperCase()}</b></td><td><code>${escaped(path)}</code></td><td>${escaped(summaryOf(operation))}</td></tr>`,
      ),
  )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(info.title)}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td{border-top:1px solid #8884;padding:.3rem .8rem .3rem 0;vertical-align:top}
pre{background:#8882;padding:1rem;overflow:auto}</style></head><body>
<h1>${escaped(info.title)} ${escaped(info.version)}</h1>
<p>${escaped(info.description)} Each call wants the header <code>Authorization: Bearer im_…</code>,
or the key in <code>x-api-key</code> or <code>api-key</code>.
The exact shapes are in <a href="/openapi.json">/openapi.json</a>.</p>
<pre>curl $BASE_URL/v1/chat/completions \\
  -H "Authorization: Bearer $INFERMESH_KEY" -H "Content-Type: application/json" \\
  -d '{"messages":[{"role":"user","content":"Hello!"}]}'</pre>
<table>${rows.join('\n')}</table>
</body></html>
`
}
