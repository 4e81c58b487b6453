import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test, { type Test } from 'brittle'
import type { z } from 'zod'
import { printError } from '../cli/shared/errors.js'
import { bold, print, printJson, printLines, printTable, red, table, writeAnswer } from '../cli/shared/output.js'
import { MeshError, type MethodName, methods, oneLine, printable } from '../lib/protocol/index.js'
import { apiKeySchema, auditEntrySchema, modelSchema, storedRecordSchema } from '../lib/protocol/records.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { modelRecord } from '../workers/processor/model-file.js'

/** What others wrote is shown and kept as text, and steers no terminal. */

/** Clears the screen, sets a title, erases a line, turns the text round: what reached an admin's terminal once. */
const HOSTILE = '\x1b[2J\x1b]0;owned\x07\x9b31m\x7f\u202etxt.exe\u2066\u2028\rok'
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/

// biome-ignore lint/suspicious/noControlCharactersInRegex: the beginning of a colour
const COLOUR = /\x1b\[\d+m/g

/** What is written to a stream while work runs, as a terminal would get it where `terminal` is true. */
function written(t: Test, stream: NodeJS.WriteStream, terminal: boolean, work: () => void): string {
  const { write, isTTY } = stream
  const { NO_COLOR, TERM } = process.env
  let text = ''
  const restore = () => Object.assign(stream, { write, isTTY })
  t.teardown(restore)
  Object.assign(stream, { isTTY: terminal, write: (piece: string) => (text += piece) })
  Object.assign(process.env, { NO_COLOR: '', TERM: 'xterm' })
  try {
    work()
  } finally {
    restore()
    Object.assign(process.env, { NO_COLOR: NO_COLOR ?? '', TERM: TERM ?? 'dumb' })
  }
  return text
}

test('text loses its control characters, and in a line its newlines', (t) => {
  t.is(printable('\x1b]0;title\x07plain\x1b[2J\ttext\r\n'), ']0;titleplain[2J\ttext\n')
  t.absent(CONTROL.test(printable(HOSTILE)))
  t.is(oneLine('one\r\n  two\tthree'), 'one two three')
  t.is(printable('Größe שלום 你好 👩‍💻'), 'Größe שלום 你好 👩‍💻', 'and what is no control character stays')
})

test('nothing that others wrote reaches a terminal as more than text', (t) => {
  const on = (work: () => void) => written(t, process.stdout, true, work)
  const painted = on(() => print(`${red('failed')}: ${HOSTILE}`))
  t.ok(painted.startsWith('\x1b[31mfailed\x1b[39m: '), 'our own colours are shown')
  t.absent(CONTROL.test(painted.replace('\x1b[31m', '').replace('\x1b[39m', '')))
  t.is(on(() => print(`a\nok    b ${HOSTILE}`)).split('\n').length, 2, 'and nothing of it is a line of its own')
  t.is(
    on(() => print(bold('\x1b[8mhidden'))),
    '\x1b[1m[8mhidden\x1b[22m\n',
    'within our colours neither',
  )
  for (const text of [
    on(() => writeAnswer(HOSTILE)),
    on(() => printJson({ [HOSTILE]: HOSTILE })),
    on(() => printTable(['NAME'], [[HOSTILE]], '')).replaceAll(COLOUR, ''),
    on(() => printLines(HOSTILE)),
    written(t, process.stderr, true, () => printError(MeshError.NOT_FOUND(HOSTILE), false)),
    written(t, process.stderr, true, () => printError(MeshError.NOT_FOUND(HOSTILE, { [HOSTILE]: HOSTILE }), true)),
  ]) {
    t.absent(CONTROL.test(text), JSON.stringify(text))
  }
  const json = on(() => printJson({ a: HOSTILE }))
  t.alike(JSON.parse(json), { a: HOSTILE }, 'and JSON says all of it by numbers')
  t.is(
    written(t, process.stdout, false, () => writeAnswer(HOSTILE)),
    HOSTILE,
    'a pipe gets an answer as it is',
  )
  t.is(table(['A'], [['\x1b[31mx']])[1], '[31mx')
})

test('a worker in a terminal shows its log without them', (t) => {
  const log = pathToFileURL(join(PACKAGE_ROOT, 'dist', 'lib', 'worker-base', 'log.js'))
  const code = `const { openLog } = await import(${JSON.stringify(log.href)})
    const log = await openLog({ level: 'info', role: 'gateway', name: 'g', terminal: true })
    log.info({ label: process.argv[1], deep: [{ a: process.argv[1] }] }, process.argv[1])`
  const env = { ...process.env, NO_COLOR: '1' }
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', code, HOSTILE], { env })
  t.is(status, 0, String(stderr))
  t.ok(stderr.includes('txt.exe'))
  t.absent(CONTROL.test(stderr.toString().replaceAll(COLOUR, '')), JSON.stringify(stderr.toString()))
})

test('the command writes to the terminal in few places, each of which looks at what it shows', (t) => {
  const folder = join(PACKAGE_ROOT, 'cli')
  const places = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(
      (path) =>
        path.endsWith('.ts') && /\b(stdout|stderr)\.write|console\./.test(readFileSync(join(folder, path), 'utf8')),
    )
    .sort()
  t.alike(places, [
    'commands/gpu.ts',
    'shared/errors.ts',
    'shared/nearby.ts',
    'shared/output.ts',
    'shared/password.ts',
    'supervisor/live-table.ts',
    'terminal/typing.ts',
  ])
})

test('what is kept is refused with control characters in it', (t) => {
  const model = { name: 'm', sizeBytes: 1, parameters: 1, contextLength: 1 }
  const facts = { hash: 'h', architecture: 'a', quantisation: 'q', licence: 'l' }
  const kept: [MethodName, (text: string) => object][] = [
    ['keys.create', (label) => ({ label })],
    ['keys.update', (label) => ({ id: 'k', label })],
    ['users.add', (name) => ({ name })],
    ['users.register', (name) => ({ name, password: '12345678' })],
    ['login', (name) => ({ name, password: 'x' })],
    ['login', (address) => ({ name: 'ann', password: 'x', address })],
    ['join', (name) => ({ id: 'i', secret: 's', role: 'processor', name })],
    ['invites.create', (name) => ({ role: 'processor', name })],
    ['models.add', (path) => ({ path })],
    ['models.add', (name) => ({ path: '/m', name })],
    ['processor.models.add', (path) => ({ path })],
    ['keys.create', (name) => ({ limits: { models: [name] } })],
    ...Object.keys(facts).map((fact): [MethodName, (text: string) => object] => [
      'models.announce',
      (text) => ({ ...model, ...facts, [fact]: text }),
    ]),
  ]
  for (const [name, body] of kept) {
    t.ok(methods[name].request.safeParse(body('fine')).success, `${name} takes text`)
    for (const bad of ['a\x1b[2J', 'a\nb', 'a\x9bb', 'a\u202eb', 'a\u2028b', 'a\x7f']) {
      t.absent(methods[name].request.safeParse(body(bad)).success, `${name} ${JSON.stringify(body(bad))}`)
    }
  }
})

test('what an earlier version kept is read without them, and a model’s file puts none into the directory', (t) => {
  const entry = { id: 'k', user: 'ann', label: HOSTILE, secretHash: '', limits: {}, createdAt: 0 }
  const facts = {
    architecture: HOSTILE,
    quantisation: 'q',
    licence: HOSTILE.repeat(100),
    parameters: 1,
    contextLength: 1,
  }
  const file = { path: '/m', sizeBytes: 1, modifiedMs: 1, hash: 'h' }
  const record = {
    requestId: 'r',
    at: 0,
    keyId: 'k',
    kind: 'chat',
    promptTokens: 1,
    cachedTokens: 0,
    completionTokens: 0,
  }
  const times = { queueMs: 0, totalMs: 0 }
  const read: [z.ZodType, object][] = [
    [apiKeySchema.strict(), entry],
    [auditEntrySchema, { seq: 1, at: 0, actor: HOSTILE, action: HOSTILE, target: HOSTILE }],
    [storedRecordSchema, { ...record, ...times, user: HOSTILE, model: HOSTILE, processor: HOSTILE, outcome: HOSTILE }],
    [modelSchema, { name: 'm', hash: HOSTILE, sizeBytes: 1, ...facts }],
  ]
  for (const [schema, value] of read) {
    const text = JSON.stringify(schema.parse(value))
    t.ok(text.includes('txt.exe') && !CONTROL.test(text) && !text.includes('\\u'), text)
  }
  const announced = methods['models.announce'].request.safeParse(modelRecord('m', file, facts))
  t.ok(announced.success, String(announced.error))
})
