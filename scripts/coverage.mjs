import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Says which lines and branches of the compiled product the tests reach, workers, engines and commands in processes of
 * their own included:
 *
 *   npm run coverage                  all tests
 *   npm run coverage -- cli doctor    the test files whose names hold one of the words
 *   npm run coverage -- --report      what the last run measured, once more
 *
 * A process writes its coverage as it ends, so what a killed one did last is missing. Lines are those with code; comments and blank lines
 * count for nothing. Exits with 1 where a test failed, or where all tests together reach less than the goal.
 */

const GOAL = { lines: 90, branches: 80 }
const LARGEST = 15
/** The longest prefix names a file's room. */
const ROOMS = [
  'cli',
  'lib/client',
  'lib/errors',
  'lib/home',
  'lib/link',
  'lib/protocol',
  'lib/store',
  'lib/worker-base',
  'worker.ts',
  'workers/auth',
  'workers/gateway',
  'workers/metrics',
  'workers/processor',
  'workers/processor/engine',
]

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)
const measured = join('coverage', 'tmp')
const words = process.argv.slice(2).filter((word) => word !== '--report')

let failed = false
if (!process.argv.includes('--report')) {
  rmSync('coverage', { recursive: true, force: true })
  const env = { ...process.env, NODE_V8_COVERAGE: join(root, measured) }
  failed = spawnSync(process.execPath, ['dist/test/run.js', ...words], { env, stdio: 'inherit' }).status !== 0
}

const c8 = join(dirname(createRequire(import.meta.url).resolve('c8/package.json')), 'bin', 'c8.js')
const report = [
  'report',
  '--temp-directory',
  measured,
  '--reporter',
  'json',
  '--report-dir',
  'coverage',
  '--merge-async',
]
const files = ['--all', '--src', 'dist', ...['dist/test/**', 'dist/bench/**', '**/*.d.ts'].flatMap((x) => ['-x', x])]
const { status } = spawnSync(process.execPath, [c8, ...report, ...files], { stdio: 'inherit' })
if (status !== 0) process.exit(1)

const rooms = new Map(ROOMS.map((room) => [room, { lines: [0, 0], branches: [0, 0] }]))
const total = { lines: [0, 0], branches: [0, 0] }
const gaps = []
for (const [path, file] of Object.entries(JSON.parse(readFileSync('coverage/coverage-final.json', 'utf8')))) {
  const name = relative(root, path)
  const room = ROOMS.filter((one) => name === one || name.startsWith(`${one}/`)).at(-1)
  const text = readFileSync(path, 'utf8').split('\n')
  // A file with nothing but types is compiled to nothing.
  if (room === undefined || isEmpty(name)) continue
  const code = codeLines(text)
  // To c8 each line is a statement.
  for (const [i, { start }] of Object.entries(file.statementMap)) {
    if (code.has(start.line)) count('lines', room, file.s[i] > 0)
  }
  for (const [i, [times]] of Object.entries(file.b)) {
    count('branches', room, times > 0)
    if (times === 0) gaps.push(gap(name, text, code, file.branchMap[i].loc))
  }
}

/** @param what `lines` or `branches` */
function count(what, room, reached) {
  for (const counted of [rooms.get(room)[what], total[what]]) {
    counted[0] += reached ? 1 : 0
    counted[1]++
  }
}

/** The numbers of the lines that hold more than a comment. */
function codeLines(text) {
  let inComment = false
  const found = new Set()
  for (const [i, line] of text.entries()) {
    const rest = line.trim()
    if (rest.startsWith('/*')) inComment = true
    if (!inComment && rest !== '' && !rest.startsWith('//')) found.add(i + 1)
    if (rest.endsWith('*/')) inComment = false
  }
  return found
}

function isEmpty(name) {
  const compiled = readFileSync(join('dist', name.replace(/\.ts$/, '.js')), 'utf8')
  return codeLines(compiled.replace(/^export \{\};$/m, '').split('\n')).size === 0
}

function gap(name, text, code, { start, end }) {
  const lines = Array.from({ length: end.line - start.line + 1 }, (_, i) => start.line + i)
  // What begins at the end of a line begins on the next, in a reader's eyes.
  const first = text[start.line - 1].slice(Math.max(start.column, 0)).trim() || text[start.line - 1].trim()
  return { name, start: start.line, end: end.line, size: lines.filter((line) => code.has(line)).length, first }
}

/** Those that lie in no other one. */
function outermost(all) {
  return all.filter(
    (one) => !all.some((two) => two !== one && two.name === one.name && two.size > one.size && holds(two, one)),
  )
}

function holds(outer, inner) {
  return outer.start <= inner.start && outer.end >= inner.end
}

const percent = ([reached, of]) => (of === 0 ? 100 : (100 * reached) / of)
const cell = (counted) => `${percent(counted).toFixed(1).padStart(6)} %  ${counted.join('/').padStart(12)}`
console.log(`\n${'room'.padEnd(28)}${'lines'.padStart(8)}${'branches'.padStart(24)}`)
for (const [room, { lines, branches }] of rooms) console.log(`${room.padEnd(26)}${cell(lines)}  ${cell(branches)}`)
console.log(`${'all'.padEnd(26)}${cell(total.lines)}  ${cell(total.branches)}`)

console.log('\nThe largest branches and functions that no test reaches:')
const largest = outermost(gaps).sort((a, b) => b.size - a.size)
for (const { name, start, end, size, first } of largest.slice(0, LARGEST)) {
  const where = `${name}:${start}${end === start ? '' : `-${end}`}`
  console.log(`  ${String(size).padStart(3)} lines  ${where.padEnd(52)} ${first.slice(0, 60)}`)
}

console.log('\nThe files with most branches that no test reaches:')
const byFile = new Map()
for (const one of gaps) byFile.set(one.name, [...(byFile.get(one.name) ?? []), one])
for (const [name, all] of [...byFile].sort(([, a], [, b]) => b.length - a.length).slice(0, LARGEST)) {
  console.log(
    `  ${String(all.length).padStart(3)}  ${name.padEnd(48)} lines ${all
      .map(({ start }) => start)
      .join(' ')
      .slice(0, 60)}`,
  )
}

const short = Object.entries(GOAL).filter(([what, goal]) => words.length === 0 && percent(total[what]) < goal)
for (const [what, goal] of short) console.log(`\nThe tests should reach ${goal} % of all ${what}.`)
process.exitCode = failed || short.length > 0 ? 1 : 0
