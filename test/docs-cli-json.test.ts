import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { infermesh, testHome } from './helpers/mesh.js'
import { namesIn, readPage, rowsOf, sectionsOf } from './helpers/page.js'

/** What docs/cli.md says that commands print with --json, against what they print. */

/** What an object holds, by name. `inner` is of an object, or of each in a list; absent: it is not told. */
interface Field {
  isOptional: boolean
  inner?: Shape
}
type Shape = Map<string, Field>

/** Reads `{a, b?, c: [{d}]}`. */
function shapeOf(text: string): Shape {
  const tokens = text.match(/[{}[\]:,?]|\w+/g) ?? []
  let at = 0
  const object = (): Shape => {
    const shape: Shape = new Map()
    for (at++; tokens[at] !== '}'; ) {
      const name = tokens[at++] ?? ''
      const isOptional = tokens[at] === '?'
      if (isOptional) at++
      const field: Field = { isOptional }
      if (tokens[at] === ':') {
        const isList = tokens[++at] === '['
        if (isList) at++
        field.inner = object()
        if (isList) at++
      }
      shape.set(name, field)
      if (tokens[at] === ',') at++
    }
    at++
    return shape
  }
  return object()
}

/** In what a value differs from its shape, each with where. */
function faults(value: unknown, shape: Shape, where: string): string[] {
  if (Array.isArray(value)) return value.flatMap((one, i) => faults(one, shape, `${where}[${i}]`))
  if (typeof value !== 'object' || value === null) return [`${where} is no object`]
  const has: Record<string, unknown> = { ...value }
  return [
    ...Object.keys(has).flatMap((name) => (shape.has(name) ? [] : [`${where}.${name} is not told`])),
    ...[...shape].flatMap(([name, { isOptional, inner }]) => {
      if (has[name] === undefined) return isOptional ? [] : [`${where}.${name} is not there`]
      return inner === undefined ? [] : faults(has[name], inner, `${where}.${name}`)
    }),
  ]
}

/** The shapes that the page tells, by command. */
function told(): Map<string, Shape> {
  const rows = rowsOf(sectionsOf(readPage('cli.md')), 'What JSON the commands print')
  const shapes = new Map<string, Shape>()
  for (const [commands, cell = ''] of rows) {
    const [first = ''] = namesIn(cell)
    const shape = first.startsWith('{') ? shapeOf(first) : new Map(shapes.get('keys limits'))
    if (!first.startsWith('{')) {
      if (cell.includes('`users show`')) shape.set('budget', shapes.get('users show')?.get('budget') as Field)
      for (const name of namesIn(cell.split(', and ')[1]))
        if (name !== 'users show' && name !== 'budget') shape.set(name, { isOptional: false })
    }
    for (const command of namesIn(commands)) shapes.set(command, shape)
  }
  return shapes
}

test('what docs/cli.md says of --json is what the commands print', { timeout: 180_000 }, async (t) => {
  const shapes = told()
  const seen = new Set<string>()
  const home = await testHome(t)
  t.teardown(() => infermesh(['down', '--force'], { home }))
  const up = ['up', '--detach', '--no-check', '--http-port', '0', '--metrics-port', '0']
  t.is((await infermesh(up, { home })).code, 0)

  /** Runs a command, and compares what it prints with what is told of it. */
  const prints = async (command: string, args: string[] = [], options: { home?: string; input?: string } = {}) => {
    const words = [...command.split(' '), ...args, '--json']
    const { stdout, stderr } = await infermesh(words, { home, ...options })
    const value = read(t, stdout, `${words.join(' ')}: ${stderr}`)
    const shape = shapes.get(command)
    t.alike(shape === undefined ? [`${command} is not told`] : faults(value, shape, command), [], command)
    seen.add(command)
    return value
  }
  const text = (value: Record<string, unknown>, name: string): string => String(value[name])

  await prints('users add', ['ann', '--budget', '1M/month', '--password'], { input: 'a long password\n' })
  await prints('users limits', ['ann', '--rpm', '90'])
  await prints('users ls')
  const { stdout } = await infermesh(['keys', 'create', '--user', 'ann', '--budget', '9k/day', '--json'], { home })
  const made = read(t, stdout, 'keys create')
  await infermesh(['run', 'Hello', '--key', text(made, 'key')], { home })
  await prints('users show', ['ann'])
  await prints('users passwd', ['ann'], { input: 'another password\n' })
  await prints('keys ls')
  await prints('keys limits', [text(made, 'id'), '--rpm', '5'])
  await prints('keys update', [text(made, 'id'), '--label', 'ci', '--expires', '9d'])
  await prints('keys show', [text(made, 'id')])
  await prints('usage', ['--by', 'key'])
  await prints('usage', ['--by', 'day', '--by', 'model'])
  const hers = await testHome(t)
  await prints('login', [text(made, 'connect')], { home: hers })
  await prints('whoami', [], { home: hers })
  await prints('keys revoke', [text(made, 'id')])
  await prints('users rm', ['ann'])
  await prints('keys rotate', ['--expires', '90d'])

  const file = join(await t.tmp(), 'second.gguf')
  copyFileSync(join(PACKAGE_ROOT, 'models', 'infermesh-tiny.Q8_0.gguf'), file)
  const added = await prints('models add', [file, '--name', 'second'])
  t.is(added.default, true, 'the first real model is the default by itself')
  await prints('models ls')
  await prints('models default', ['second'])
  await prints('models rm', ['second'])

  const invite = await prints('invite', ['--same-machine', '--expires', '1h'])
  await prints('join', [text(invite, 'invite'), '--name', 'p2'], { home: await testHome(t) })
  const open = await prints('invite', ['--same-machine', '--name', 'p3'])
  await prints('invite revoke', [text(open, 'id')])
  await prints('invite ls')
  await prints('members ls')
  await prints('members remove', ['p2'])
  await prints('members requests')
  await prints('gpu ls')
  await prints('gpu install', ['cpu', '--dry-run'])
  await prints('doctor')
  await prints('down')

  // Where a machine of the LAN asks, or strangers may register: the tests of those run them.
  const elsewhere = ['members accept', 'members refuse', 'register']
  t.alike(
    [...shapes.keys()].filter((command) => !seen.has(command) && !elsewhere.includes(command)),
    [],
  )
})

function read(t: Test, stdout: string, what: string): Record<string, unknown> {
  try {
    return JSON.parse(stdout) as Record<string, unknown>
  } catch {
    t.fail(what)
    throw new Error(what)
  }
}

test('a field that is not told, and one that is not there, is noticed', (t) => {
  const shape = shapeOf('{a, b?, c: [{d: {e}, f?}]}')
  t.alike(faults({ a: 1, c: [{ d: { e: 1 } }, { d: { e: 1 }, f: 2 }] }, shape, 'x'), [])
  t.alike(faults({ b: 1, g: 1, c: [{ d: {} }] }, shape, 'x'), [
    'x.g is not told',
    'x.a is not there',
    'x.c[0].d.e is not there',
  ])
})
