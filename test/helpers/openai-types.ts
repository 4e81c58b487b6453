import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'

/** JSON schemas made of the types in openai-answers.ts, and kept beside the build: it takes some seconds. */

const TYPES = join(PACKAGE_ROOT, 'test', 'helpers', 'openai-answers.ts')
const OPENAI = join(PACKAGE_ROOT, 'node_modules', 'openai', 'package.json')
const hash = createHash('sha256').update(readFileSync(TYPES)).update(readFileSync(OPENAI)).digest('hex')
const CACHE = join(PACKAGE_ROOT, 'dist', 'test', `openai-types-${hash.slice(0, 16)}.json`)

/** Where the API gives what the types do not have. */
const ALSO: [type: string, field: string, given: 'absent' | 'null' | 'string'][] = [
  // The SDK itself adds it to what came.
  ['Response', 'output_text', 'absent'],
  ['Response', 'user', 'null'],
  // While it is under way, and where it failed.
  ['Response', 'usage', 'null'],
  // Codes of ours among them.
  ['ResponseError', 'code', 'string'],
  // In all chunks of a stream but the last.
  ['CompletionChoice', 'finish_reason', 'null'],
  // Asked for as base64, which the SDK does and then reads itself.
  ['Embedding', 'embedding', 'string'],
]

interface TypeSchemas {
  definitions: Record<string, { required?: string[]; properties?: Record<string, object> }>
}

async function schemaOfTypes(): Promise<TypeSchemas> {
  if (!existsSync(CACHE)) {
    const { createGenerator } = await import('ts-json-schema-generator')
    const generator = createGenerator({
      path: TYPES,
      tsconfig: join(PACKAGE_ROOT, 'test', 'schemas', 'tsconfig.json'),
      type: 'OpenAiAnswers',
      // The compiler of this package has checked them already.
      skipTypeCheck: true,
      additionalProperties: true,
    })
    const text = JSON.stringify(generator.createSchema('OpenAiAnswers'))
    writeFileSync(`${CACHE}.${process.pid}`, text)
    renameSync(`${CACHE}.${process.pid}`, CACHE)
  }
  const schemas = JSON.parse(readFileSync(CACHE, 'utf8')) as TypeSchemas
  for (const [type, field, given] of ALSO) {
    const { required, properties } = schemas.definitions[type] ?? {}
    const own = properties?.[field]
    if (properties === undefined || own === undefined) throw new Error(`OpenAI's ${type} has no ${field}`)
    if (given !== 'absent') properties[field] = { anyOf: [own, { type: given }] }
    else required?.splice(required.indexOf(field), 1)
  }
  return schemas
}

const ajv = new Ajv({ strict: false, allErrors: true, allowUnionTypes: true }).addSchema({
  ...(await schemaOfTypes()),
  $id: 'openai',
})

/** How many objects were looked at, and how many are of their types. */
export const typed = { looked: 0, fit: 0 }

/** How an object differs from OpenAI's type of it; undefined where it is of it, or where there is no such type. */
export function typeFault(name: string, value: unknown): string | undefined {
  const validate = ajv.getSchema(`openai#/definitions/OpenAiAnswers/properties/${name}`)
  if (validate === undefined) return undefined
  typed.looked++
  if (validate(value)) {
    typed.fit++
    return undefined
  }
  return `${name}, by OpenAI's types: ${ajv.errorsText(validate.errors?.slice(0, 5))}: ${JSON.stringify(value).slice(0, 500)}`
}
