import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'
import { typeFault } from './openai-types.js'

/** Everything that the door answers, checked against schemas of OpenAI's objects. */

const folder = join(PACKAGE_ROOT, 'test', 'schemas', 'openai')
const ajv = new Ajv({ strict: false, allErrors: false, allowUnionTypes: true })
for (const file of readdirSync(folder)) ajv.addSchema(JSON.parse(readFileSync(join(folder, file), 'utf8')) as object)

/** What is wrong with an object; undefined where it fits its schema and OpenAI's own type. */
export function schemaFault(name: string, value: unknown): string | undefined {
  const validate = ajv.getSchema(name)
  if (validate === undefined) throw new Error(`there is no schema ${name}`)
  if (validate(value)) return typeFault(name, value)
  return `${name}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(value).slice(0, 500)}`
}

/** One server-sent event, or a comment. */
export interface Frame {
  event?: string
  data?: string
  comment?: string
}

export function parseFrames(text: string): Frame[] {
  return text
    .split('\n\n')
    .filter((block) => block !== '')
    .map((block) => {
      const frame: Frame = {}
      for (const line of block.split('\n')) {
        if (line.startsWith(':')) frame.comment = line.slice(1).trim()
        else if (line.startsWith('event: ')) frame.event = line.slice(7)
        else if (line.startsWith('data: ')) frame.data = line.slice(6)
        else throw new Error(`This is no line of an event stream: ${JSON.stringify(line)}`)
      }
      return frame
    })
}

const OBJECTS: [path: RegExp, whole: string, event: string][] = [
  [/^\/v1\/chat\/completions$/, 'chat-completion', 'chat-completion-chunk'],
  [/^\/v1\/completions$/, 'text-completion', 'text-completion'],
  [/^\/v1\/embeddings$/, 'embedding-list', ''],
  [/^\/v1\/models$/, 'model-list', ''],
  [/^\/v1\/models\/.+$/, 'model', ''],
  [/^\/v1\/responses\/[^/]+\/input_items$/, 'input-items', ''],
  [/^\/v1\/responses(\/[^/]+)?$/, 'response', 'response-event'],
]

/** What is wrong with an answer of the door: of each object, of each event of a stream and of its order. */
export function answerFaults(method: string, url: string, response: Response, text: string): string[] {
  const faults: (string | undefined)[] = []
  const path = new URL(url).pathname
  if (!response.headers.has('x-request-id')) faults.push(`${path}: no x-request-id`)
  if (!response.ok) return [...faults, schemaFault('error', JSON.parse(text))].filter((fault) => fault !== undefined)
  const found = OBJECTS.find(([pattern]) => pattern.test(path))
  if (found === undefined) return []
  const [, whole, event] = found
  if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
    faults.push(schemaFault(method === 'DELETE' ? 'response-deleted' : whole, JSON.parse(text)))
    return faults.filter((fault) => fault !== undefined)
  }
  const frames = parseFrames(text).filter(({ data }) => data !== undefined)
  const isChat = event !== 'response-event'
  const last = isChat ? frames.pop() : undefined
  for (const [i, frame] of frames.entries()) {
    const value = JSON.parse(frame.data as string) as { type?: string; sequence_number?: number }
    faults.push(schemaFault(event, value))
    if (!isChat && (frame.event !== value.type || value.sequence_number !== i)) {
      faults.push(`event ${i} is named ${frame.event} and numbered ${value.sequence_number}`)
    }
  }
  if (isChat && last?.data !== '[DONE]') {
    faults.push(schemaFault('error', JSON.parse(last?.data ?? 'null')))
  }
  return faults.filter((fault) => fault !== undefined)
}

/**
 * A fetch for clients that also reads each answer itself and checks it.
 * @returns `fetch`, and `faults`, which waits for the answers under way and tells how many were checked
 */
export function checkedFetch(): { fetch: typeof fetch; faults: () => Promise<{ faults: string[]; checked: number }> } {
  const checks: Promise<string[]>[] = []
  return {
    fetch: async (input, init) => {
      const response = await fetch(input, init)
      const url = input instanceof Request ? input.url : String(input)
      const copy = response.clone()
      checks.push(copy.text().then((text) => answerFaults(init?.method ?? 'GET', url, copy, text)))
      return response
    },
    faults: async () => ({ faults: (await Promise.all(checks)).flat(), checked: checks.length }),
  }
}
