import { readdirSync, readFileSync } from 'node:fs'
import { posix, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'

/** The rules of docs/architecture.md, checked against what each file imports. */

const root = fileURLToPath(new URL('../../', import.meta.url))

const HTTP = 'lib/worker-base/http'
const WORKER = ['lib/worker-base', 'lib/link', 'lib/store', 'lib/home', 'lib/lan', 'lib/protocol']
const ENGINE = 'workers/processor/engine'
const FIRST_ENGINE = 'workers/processor/first-engine'
const GATEWAY = 'workers/gateway'

/**
 * The rooms, each by its folder, and which others it may enter, by their doors. A folder within a room that is named
 * here is a room of its own. What stands in none, test and bench, may enter any, past the doors too.
 */
const ARROWS: Record<string, string[]> = {
  cli: ['lib/client', 'lib/home', 'lib/lan', 'lib/protocol', 'lib/errors'],
  'lib/client': ['lib/link', 'lib/store', 'lib/home', 'lib/protocol'],
  'lib/worker-base': ['lib/link', 'lib/store', 'lib/home', 'lib/lan', 'lib/protocol'],
  [HTTP]: ['lib/worker-base', 'lib/home', 'lib/lan', 'lib/protocol'],
  'lib/link': ['lib/protocol'],
  'lib/store': ['lib/protocol'],
  'lib/home': ['lib/protocol'],
  'lib/lan': ['lib/protocol'],
  'lib/protocol': ['lib/errors'],
  'lib/errors': [],
  'workers/auth': WORKER,
  [GATEWAY]: [
    ...WORKER,
    HTTP,
    `${GATEWAY}/requests`,
    `${GATEWAY}/http`,
    `${GATEWAY}/openai`,
    `${GATEWAY}/api`,
    `${GATEWAY}/stored`,
  ],
  [`${GATEWAY}/requests`]: ['lib/store', 'lib/protocol'],
  [`${GATEWAY}/http`]: [`${GATEWAY}/requests`, 'lib/worker-base', HTTP, 'lib/store', 'lib/protocol'],
  [`${GATEWAY}/openai`]: [`${GATEWAY}/http`, `${GATEWAY}/requests`, `${GATEWAY}/stored`, 'lib/store', 'lib/protocol'],
  [`${GATEWAY}/stored`]: ['lib/worker-base', 'lib/protocol'],
  [`${GATEWAY}/api`]: [`${GATEWAY}/http`, 'lib/worker-base', 'lib/store', 'lib/protocol'],
  'workers/metrics': [...WORKER, HTTP],
  'workers/processor': [...WORKER, ENGINE, FIRST_ENGINE],
  [FIRST_ENGINE]: [ENGINE],
  [ENGINE]: [`${ENGINE}/json`, `${ENGINE}/grammar`, `${ENGINE}/tools`, 'lib/protocol', 'lib/errors'],
  [`${ENGINE}/tools`]: [`${ENGINE}/json`, 'lib/protocol', 'lib/errors'],
  [`${ENGINE}/json`]: [`${ENGINE}/grammar`, 'lib/protocol', 'lib/errors'],
  [`${ENGINE}/grammar`]: ['lib/errors'],
  'worker.ts': [
    'workers/auth',
    'workers/gateway',
    'workers/processor',
    'workers/metrics',
    FIRST_ENGINE,
    'lib/worker-base',
    'lib/home',
    'lib/protocol',
  ],
}

/** The file of a room that others may import. */
const DOOR = 'index.ts'

const NETWORK = /^(hyper|@hyperswarm|corestore|protomux|fastify)/

/** A path split into its room, the longest that holds it, and the file's place in it. */
function placeOf(path: string): { room: string; file: string } | undefined {
  const holding = Object.keys(ARROWS).filter((room) => path === room || path.startsWith(`${room}/`))
  const room = holding.sort((a, b) => b.length - a.length)[0]
  return room === undefined ? undefined : { room, file: path.slice(room.length + 1) }
}

/** What a source file imports of ours, as paths from the root: static, re-exported, dynamic and type-only imports. */
function importsOf(path: string, source: string): string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '')
  const found = code.matchAll(/(?:\bfrom|\bimport|\bimport\()\s*['"](\.[^'"]+)['"]/g)
  return [...found].map(([, target = '']) => posix.join(posix.dirname(path), target).replace(/\.js$/, '.ts'))
}

/** Every import that goes against the arrows or past a door, in words. */
function wrongImports(files: Map<string, string>): string[] {
  return [...files].flatMap(([path, source]) => {
    const from = placeOf(path)
    if (from === undefined) return []
    return importsOf(path, source).flatMap((target) => {
      const to = placeOf(target)
      if (to?.room === from.room || !target.endsWith('.ts')) return []
      if (to === undefined || !ARROWS[from.room]?.includes(to.room))
        return [`${path} imports ${target}: ${from.room} may not enter ${to?.room ?? target}`]
      return to.file === DOOR ? [] : [`${path} imports ${target}: ${to.room} is entered by ${DOOR}`]
    })
  })
}

/** The public entry of the package: its users are other programs. */
const PUBLIC = 'lib/client/index.ts'
const GIVING = new RegExp(`^(lib/[^/]+|${HTTP}|${ENGINE}(/[^/]+)?)/${DOOR}$`)

/** The names in the braces of an import or export list. */
function namesIn(list: string): string[] {
  return list.split(',').flatMap(
    (name) =>
      name
        .trim()
        .replace(/^type /, '')
        .split(' as ')[0] || [],
  )
}

/** What the doors of lib and of the engine give and no other room of the product imports, in words. */
function unusedExports(files: Map<string, string>): string[] {
  const doors = [...files].filter(([path]) => GIVING.test(path) && path !== PUBLIC)
  const taken = new Set<string>()
  for (const [path, source] of files) {
    if (!/^(cli|lib|workers|worker\.ts)/.test(path)) continue
    for (const [, list = '', target = ''] of source.matchAll(
      /(?:\b(?:im|ex)port (?:type )?)?\{([^}]*)\} (?:from|= await import\() ?'(\.[^']+)'/g,
    )) {
      const door = posix.join(posix.dirname(path), target).replace(/\.js$/, '.ts')
      if (placeOf(door)?.room !== placeOf(path)?.room) for (const name of namesIn(list)) taken.add(`${door} ${name}`)
    }
  }
  return doors.flatMap(([door, source]) => {
    if (/^export \*/m.test(source)) return [`${door} gives all of a file: it should name what others may use`]
    const given = [...source.matchAll(/\bexport (?:type )?\{([^}]*)\}/g)].flatMap(([, list = '']) => namesIn(list))
    return given
      .filter((name) => !taken.has(`${door} ${name}`))
      .map((name) => `${door} gives ${name}, which nobody takes`)
  })
}

/** The files of a home that have their reader and writer in lib/home, and the fields of `homeFiles` that name them. */
const FACTS = String.raw`(?:mesh\.json|login\.json|admin\.key|home\.invite|supervisor\.json|roles\.json|identity\.key|store\.pid)`
const FIELDS = '(?:mesh|login|adminKey|homeInvite|statusDir|status|roles|supervisor)'
const FACT_PATHS: RegExp[] = [
  // A text without spaces is a path, one with spaces a message to people.
  new RegExp(String.raw`(['"\`])[^'"\`\s]*${FACTS}\1`),
  // Inside of a text it is a message too.
  new RegExp(String.raw`(?<!\$\{)homeFiles\([^()]*\)\.${FIELDS}\b`),
  new RegExp(String.raw`\{[^{}]*\b${FIELDS}\b[^{}]*\} = homeFiles\(`),
]

/** Where the product touches a fact of a home past its reader and writer, in words. */
function factsTouched(files: Map<string, string>): string[] {
  return [...files]
    .filter(([path]) => /^(cli|lib|workers|worker\.ts)/.test(path) && !path.startsWith('lib/home/'))
    .flatMap(([path, source]) => {
      const lines = source.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, '')).split('\n')
      return lines.flatMap((line, i) =>
        FACT_PATHS.some((pattern) => pattern.test(line.replace(/^\s*\/\/.*/, '')))
          ? [`${path}:${i + 1} names a file of a home that lib/home reads and writes`]
          : [],
      )
    })
}

/** A source without its type-only imports, which the compiler takes away. */
function atRunTime(source: string): string {
  return source.replace(/^\s*(import|export) type [^'"]*from\s*['"][^'"]+['"]/gm, '')
}

/** Every file of these that can be reached from itself, as the way around. */
function cycles(files: Map<string, string>): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, way: string[]): void => {
    const at = way.indexOf(path)
    if (at >= 0) found.push([...way.slice(at), path].join(' -> '))
    const source = files.get(path)
    if (at >= 0 || done.has(path) || source === undefined) return
    for (const target of importsOf(path, atRunTime(source))) visit(target, [...way, path])
    done.add(path)
  }
  for (const path of files.keys()) visit(path, [])
  return found
}

/** The packages that a process loads which starts at this file: type-only imports are gone by then. */
function packagesFrom(start: string, files: Map<string, string>): Set<string> {
  const packages = new Set<string>()
  const seen = new Set<string>()
  const todo = [start]
  for (let path = todo.pop(); path !== undefined; path = todo.pop()) {
    const source = atRunTime(files.get(path) ?? '')
    if (seen.has(path)) continue
    seen.add(path)
    todo.push(...importsOf(path, source))
    for (const [, name = ''] of source.matchAll(/(?:\bfrom|\bimport|\bimport\()\s*['"]([^.'"][^'"]*)['"]/g))
      packages.add(name)
  }
  return packages
}

/** Spelled in two parts, so that this file does not hold them. */
const FORBIDDEN: [what: string, pattern: RegExp][] = [
  ['a path of one machine', new RegExp(`(?<![\\w.~-])/(?:wor${'k'}|hom${'e'}/\\w+|User${'s'}/\\w+)/`)],
  ['a registry host', new RegExp(`registr${'y'}\\.(?:npmjs|yarnpkg)\\.`)],
  ['a URL that a package was fetched from', new RegExp(`"resolve${'d'}": "http`)],
]

function forbiddenWords(path: string, text: string): string[] {
  return text
    .split('\n')
    .flatMap((line, i) =>
      FORBIDDEN.filter(([, pattern]) => pattern.test(line)).map(([what]) => `${path}:${i + 1} names ${what}`),
    )
}

const SKIPPED = new Set(['node_modules', 'dist', '.git', 'coverage', '.tmp'])

function filesUnder(folder: string, ending: RegExp): Map<string, string> {
  const files = new Map<string, string>()
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = `${folder}${entry.name}`
    if (entry.isDirectory() && !SKIPPED.has(entry.name)) {
      for (const [name, text] of filesUnder(`${path}/`, ending)) files.set(name, text)
    } else if (entry.isFile() && ending.test(entry.name)) {
      files.set(relative(root, path).split(sep).join('/'), readFileSync(path, 'utf8'))
    }
  }
  return files
}

const sources = filesUnder(root, /\.ts$/)

test('imports follow the arrows, and enter each room by its door', (t) => {
  t.alike(wrongImports(sources), [])
  t.alike(
    [...sources.keys()].filter((path) => /^(cli|lib|workers|worker\.ts)/.test(path) && placeOf(path) === undefined),
    [],
    'each file of the product stands in a room',
  )
  for (const room of Object.keys(ARROWS)) {
    t.ok(
      [...sources.keys()].some((path) => placeOf(path)?.room === room),
      `${room} is there`,
    )
  }
})

test('what a room of lib or of the engine gives, another room takes', (t) => {
  t.alike(unusedExports(sources), [])
  const planted = new Map([
    ['lib/home/index.ts', `export { a, type B } from './a.js'`],
    ['cli/x.ts', `import { a } from '../lib/home/index.js'`],
  ])
  t.alike(unusedExports(planted), ['lib/home/index.ts gives B, which nobody takes'])
  const within = new Map([
    [`${ENGINE}/json/index.ts`, `export { a, b } from './a.js'`],
    [`${ENGINE}/json/b.ts`, `import { b } from './index.js'`],
    [`${ENGINE}/model.ts`, `import { a } from './json/index.js'`],
  ])
  t.alike(unusedExports(within), [`${ENGINE}/json/index.ts gives b, which nobody takes`])
  t.alike(unusedExports(new Map([['lib/link/index.ts', `export * from './a.js'`]])), [
    'lib/link/index.ts gives all of a file: it should name what others may use',
  ])
})

test('the files of a home are read and written in lib/home alone', (t) => {
  t.alike(factsTouched(sources), [])
  const wrong = (line: string) => factsTouched(new Map([['cli/x.ts', line]])).length
  const cases: [line: string, isWrong: boolean][] = [
    [`readFileSync(join(home, 'mesh.json'))`, true],
    [`const path = \`\${home}/admin.key\``, true],
    ['existsSync(homeFiles(home).mesh)', true],
    ['const { logDir, statusDir } = homeFiles(home)', true],
    ['readFileSync(homeFiles(this.home).status(role, name))', true],
    [`throw new Error(\`\${homeFiles(home).mesh} is no profile\`)`, false],
    [`.option('--key <key>', 'default: <home>/admin.key')`, false],
    ['// what mesh.json says', false],
    ['const { logDir, configDir } = homeFiles(home)', false],
  ]
  for (const [line, isWrong] of cases) t.is(wrong(line), isWrong ? 1 : 0, line)
})

test('every store of the product is opened by openCorestore, which can be closed at any moment', (t) => {
  const makers = [...sources].filter(
    ([path, text]) =>
      /^(cli|lib|workers|worker\.ts)/.test(path) &&
      /\bnew Corestore\b|from 'corestore'/.test(text.replace(/import type.*/g, '')),
  )
  t.alike(
    makers.map(([path]) => path),
    ['lib/store/corestore.ts'],
  )
})

test('every change of a bee that reads before it writes holds the bee’s lock', (t) => {
  const makers = [...sources].filter(([path, text]) => /^(cli|lib|workers)/.test(path) && /\.batch\(/.test(text))
  t.alike(
    makers.map(([path]) => path),
    ['lib/store/changes.ts'],
    'batches are made by changeBee alone',
  )
})

test('no file imports itself by way of others', (t) => {
  t.alike(cycles(new Map([...sources].filter(([path]) => /^(lib|workers|cli)\//.test(path)))), [])
})

test('an engine process loads no network, and of the protocol only its types', (t) => {
  const packages = packagesFrom(`${ENGINE}/main.ts`, sources)
  t.alike(
    [...packages].filter((name) => NETWORK.test(name) || name === 'zod'),
    [],
  )
  t.ok(packages.has('node-llama-cpp'))
  t.absent(
    packagesFrom('workers/processor/index.ts', sources).has('node-llama-cpp'),
    'nor a processor the model library',
  )
  const planted = new Map([
    ['workers/processor/engine/main.ts', `import { x } from './x.js'\nimport type { C } from 'corestore'`],
    ['workers/processor/engine/x.ts', `import Swarm from 'hyperswarm'`],
  ])
  t.alike([...packagesFrom(`${ENGINE}/main.ts`, planted)], ['hyperswarm'])
})

test('a worker loads the HTTP server only where it serves HTTP', (t) => {
  for (const role of ['auth', 'processor', 'gateway', 'metrics']) {
    const serves = role === 'gateway' || role === 'metrics'
    t.is(packagesFrom(`workers/${role}/index.ts`, sources).has('fastify'), serves, role)
  }
})

test('a command that can do without the network’s libraries, or waits for workers first, loads none when it starts', (t) => {
  const first = new Map([...sources].map(([path, source]) => [path, source.replace(/\bimport\(/g, 'later(')]))
  for (const name of ['up', 'down', 'status', 'models', 'keys', 'users', 'logs', 'completion']) {
    const packages = packagesFrom(`cli/commands/${name}.ts`, first)
    t.alike(
      [...packages].filter((one) => NETWORK.test(one)),
      [],
      name,
    )
  }
  t.ok(packagesFrom('lib/client/index.ts', first).has('hyperdht'))
})

test('no file names a path of one machine or a registry', (t) => {
  const texts = filesUnder(root, /(\.(ts|mjs|js|json|md|ya?ml|sh|html|css|txt)|^[^.]+|^\.(npmrc|gitignore)|run)$/)
  t.alike(
    [...texts].flatMap(([path, text]) => forbiddenWords(path, text)),
    [],
  )
  t.ok(texts.has('package-lock.json') && texts.has('.npmrc') && texts.has('LICENSE'))
})

test('an import against an arrow is reported', (t) => {
  const wrong = (path: string, target: string) =>
    wrongImports(new Map([[path, `import { x } from '${target}'`]])).length
  const cases: [path: string, target: string, isWrong: boolean][] = [
    ['cli/chat.ts', '../lib/client/index.js', false],
    ['cli/chat.ts', '../lib/client/session.js', true],
    ['cli/chat.ts', '../lib/worker-base/index.js', true],
    ['cli/chat.ts', '../workers/auth/index.js', true],
    ['lib/client/mesh.ts', '../protocol/index.js', false],
    ['lib/client/mesh.ts', '../protocol/errors.js', true],
    ['lib/client/mesh.ts', '../worker-base/index.js', true],
    ['lib/client/mesh.ts', '../../cli/main.js', true],
    ['lib/client/mesh.ts', '../link/index.js', false],
    ['lib/protocol/ids.ts', './errors.js', false],
    ['lib/protocol/ids.ts', '../client/index.js', true],
    ['lib/link/link.ts', '../protocol/index.js', false],
    ['lib/link/link.ts', '../store/index.js', true],
    ['lib/store/accounts.ts', '../link/index.js', true],
    ['lib/home/files.ts', '../protocol/index.js', false],
    ['lib/worker-base/net/net.ts', '../store.js', false],
    ['lib/worker-base/net/net.ts', '../../client/index.js', true],
    ['workers/processor/engine/main.ts', '../../../lib/protocol/index.js', false],
    ['workers/processor/engine/main.ts', '../../../lib/protocol/errors.js', true],
    ['workers/processor/engine/main.ts', '../../../lib/errors/index.js', false],
    ['workers/auth/worker.ts', '../../lib/errors/index.js', true],
    ['lib/errors/errors.ts', '../protocol/index.js', true],
    ['workers/auth/worker.ts', '../../lib/worker-base/index.js', false],
    ['workers/auth/worker.ts', '../../lib/client/index.js', true],
    ['workers/auth/worker.ts', '../gateway/index.js', true],
    ['workers/auth/worker.ts', '../../cli/main.js', true],
    ['workers/auth/worker.ts', '../../test/kit.js', true],
    ['workers/processor/worker.ts', './settings.js', false],
    ['workers/processor/worker.ts', './engine/index.js', false],
    ['workers/processor/worker.ts', './engine/messages.js', true],
    ['workers/processor/worker.ts', './engine/json/index.js', true],
    ['workers/gateway/worker.ts', '../processor/engine/index.js', true],
    ['workers/gateway/worker.ts', './requests/index.js', false],
    ['workers/gateway/worker.ts', './requests/relay.js', true],
    ['workers/gateway/fetch.ts', './openai/errors.js', true],
    ['workers/gateway/requests/relay.ts', '../../../lib/link/index.js', true],
    ['workers/gateway/requests/relay.ts', '../journal.js', true],
    ['workers/gateway/http/call.ts', '../openai/index.js', true],
    ['workers/gateway/api/door.ts', '../http/index.js', false],
    ['workers/gateway/api/door.ts', '../openai/index.js', true],
    ['workers/gateway/openai/chat.ts', '../http/index.js', false],
    ['workers/gateway/openai/chat.ts', '../http/sse.js', true],
    ['workers/gateway/openai/chat.ts', '../api/index.js', true],
    ['workers/processor/engine/model.ts', '../settings.js', true],
    ['workers/processor/engine/model.ts', './messages.js', false],
    ['workers/processor/engine/model.ts', './tools/index.js', false],
    ['workers/processor/engine/model.ts', './tools/reader.js', true],
    ['workers/processor/engine/model.ts', '../../../lib/link/index.js', true],
    ['workers/processor/engine/tools/reader.ts', '../json/index.js', false],
    ['workers/processor/engine/tools/reader.ts', '../json/scan.js', true],
    ['workers/processor/engine/tools/reader.ts', '../messages.js', true],
    ['workers/processor/engine/tools/reader.ts', '../../../../lib/protocol/index.js', false],
    ['workers/processor/engine/json/grammar.ts', '../tools/index.js', true],
    ['workers/processor/engine/json/grammar.ts', '../index.js', true],
    ['worker.ts', './workers/auth/index.js', false],
    ['worker.ts', './workers/auth/worker.js', true],
    ['worker.ts', './workers/processor/engine/index.js', true],
    ['worker.ts', './workers/auth/ledger.js', true],
    ['worker.ts', './cli/main.js', true],
    ['test/auth.test.ts', '../workers/auth/ledger.js', false],
  ]
  for (const [path, target, isWrong] of cases) t.is(wrong(path, target), isWrong ? 1 : 0, `${path} imports ${target}`)
})

test('each way to write an import is seen, and a comment is not', (t) => {
  const source = [
    `import a from './a.js'`,
    `import type { B } from './b.js'`,
    `export * from './c.js'`,
    `import './d.js'`,
    `const e = await import('./e.js')`,
    `import {\n  f,\n} from './f.js'`,
    `import fs from 'node:fs'`,
    `// import g from './g.js'`,
    `/* import h from './h.js' */`,
  ].join('\n')
  t.alike(
    importsOf('lib/x/index.ts', source),
    ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => `lib/x/${name}.ts`),
  )
})

test('a cycle, a path and a host are reported', (t) => {
  const circle = new Map([
    ['lib/a.ts', `import './b.js'`],
    ['lib/b.ts', `import './c.js'`],
    ['lib/c.ts', `import './b.js'\nimport type { A } from './a.js'`],
    ['lib/d.ts', `import './e.js'`],
    ['lib/e.ts', `import type { D } from './d.js'`],
  ])
  t.alike(cycles(circle), ['lib/b.ts -> lib/c.ts -> lib/b.ts'])
  const planted = [
    `/wor${'k'}/x`,
    `cd "/hom${'e'}/ann/x"`,
    `https://registr${'y'}.npmjs.org/x`,
    'src/work/x',
    '~/work/',
  ]
  t.alike(forbiddenWords('x', planted.join('\n')), [
    'x:1 names a path of one machine',
    'x:2 names a path of one machine',
    'x:3 names a registry host',
  ])
})
