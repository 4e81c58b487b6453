import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Tap } from './helpers/tap.js'

/**
 * Runs each test file as a process of its own, so that a file which hangs or crashes takes no other file's results with
 * it: three at a time, for most of them wait more than they compute, one of which runs commands, which wait the most; and
 * then those of hostile/ and faults/ by themselves which look at how long others are made to wait. Prints the TAP of what
 * failed, the slowest files, what was skipped and why, and last `N passed, N failed`. A test that ends without having
 * asserted anything has failed.
 *
 * `npm test -- scheduler directory` runs the files whose names hold one of the words; those of hostile/ and long/ run only so
 * (`npm run test:attacks`).
 */

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    verbose: { type: 'boolean', default: false },
    /** How long one file may take, in seconds. Each test in it has brittle's own 30 seconds unless it says more. */
    deadline: { type: 'string', default: process.env.TEST_DEADLINE_S ?? '300' },
    /** How many files run at a time; with --verbose, which prints as it goes, one. */
    jobs: { type: 'string', default: '3' },
  },
})

const folder = fileURLToPath(new URL('.', import.meta.url))
const deadlineMs = Number(values.deadline) * 1000
const jobs = values.verbose ? 1 : Math.max(1, Number(values.jobs))
const STDERR_KEPT = 200
const ALONE = /^(hostile|faults)[/\\]/
/** Those of faults/ that look at what is kept, and not at how long it takes. */
const UNTIMED = /^faults[/\\](starts|stored|usage)\.test/
/** Attacks, and walks over minutes: only where they are named. */
const NAMED = /^(hostile|long)[/\\]/
/** A file that starts `infermesh` again and again, or machines that do. */
const RUNS_COMMANDS = /\binfermesh\(|\bMachine\.make\(|\bPerson\.at\(|\bnew Terminal\(/
const isAlone = (file: string): boolean => ALONE.test(file) && !UNTIMED.test(file)

interface FileResult {
  name: string
  passed: number
  failed: number
  skipped: string[]
  seconds: number
}

async function runFile(path: string): Promise<FileResult> {
  const name = relative(folder, path).replace(/\.test\.js$/, '')
  const startedAt = performance.now()
  const tap = new Tap()
  const stderr: string[] = []
  // Printed once the file has ended: another one may run beside it.
  const shown: string[] = []
  // A group of its own, so that what a test left running can be ended with it.
  const child = spawn(process.execPath, ['--enable-source-maps', path], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  if (child.pid !== undefined) running.add(child.pid)

  createInterface({ input: child.stderr }).on('line', (line) => {
    stderr.push(line)
    if (stderr.length > STDERR_KEPT) stderr.shift()
    if (values.verbose) console.error(line)
  })
  const out = createInterface({ input: child.stdout }).on('line', (line) => {
    const failure = tap.push(line)
    if (values.verbose) console.log(line)
    else shown.push(...failure)
  })
  const outClosed = new Promise<void>((resolve) => out.once('close', resolve))

  let late = false
  const timer = setTimeout(() => {
    late = true
    endGroup(child.pid)
  }, deadlineMs)
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.once('error', () => resolve([1, null]))
    child.once('exit', (...how) => resolve(how))
  })
  clearTimeout(timer)
  if (process.env.NODE_V8_COVERAGE !== undefined && child.pid !== undefined) await groupEnded(child.pid)
  endGroup(child.pid)
  if (child.pid !== undefined) running.delete(child.pid)
  await Promise.race([outClosed, new Promise((resolve) => setTimeout(resolve, 1000))])

  const why = whyIncomplete({ late, code, signal, tap })
  if (why !== undefined) {
    tap.failed++
    if (!values.verbose) shown.push(...tap.rest(), ...stderr)
    shown.push(`not ok - ${name}: ${why}`)
  }
  const seconds = (performance.now() - startedAt) / 1000
  const { passed, failed, skipped } = tap
  const counts = [
    `${passed} passed`,
    ...(failed > 0 ? [`${failed} FAILED`] : []),
    ...(skipped.length > 0 ? [`${skipped.length} skipped`] : []),
  ]
  shown.push(
    `${failed > 0 ? 'FAIL' : 'ok  '} ${name.padEnd(32)} ${seconds.toFixed(1).padStart(6)} s  ${counts.join(', ')}`,
  )
  console.log(shown.join('\n'))
  return { name, passed, failed, skipped, seconds }
}

/** A failure that no test of the file reports, or undefined. */
function whyIncomplete(end: {
  late: boolean
  code: number | null
  signal: NodeJS.Signals | null
  tap: Tap
}): string | undefined {
  if (end.late) return `ended after ${values.deadline} s: it hung, or something kept the process alive`
  if (end.signal !== null) return `ended by ${end.signal}`
  if (!end.tap.ended) return `the process ended early with code ${end.code}`
  if (end.code !== 0 && end.tap.failed === 0) return `exit code ${end.code} though no test failed`
  return undefined
}

const running = new Set<number>()

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, 'SIGKILL')
  } catch {
    // Nothing is left of it.
  }
}

/** Waits until what a test started has written its coverage, which a process does as it ends, and not when it is killed. */
async function groupEnded(pid: number): Promise<void> {
  for (let i = 0; i < 100; i++) {
    try {
      process.kill(-pid, 0)
    } catch {
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => {
    for (const pid of running) endGroup(pid)
    process.exit(code)
  })
}

const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => (positionals.length === 0 ? !NAMED.test(file) : positionals.some((word) => file.includes(word))))
  .sort()

console.log(`${files.length} files, Node ${process.version}, ${availableParallelism()} cores`)
const startedAt = performance.now()
const results: FileResult[] = []
/** Runs the files of the first list that has one left, until none has. */
const runFiles = async (...lists: string[][]): Promise<void> => {
  for (;;) {
    const file = lists.find((list) => list.length > 0)?.shift()
    if (file === undefined) return
    results.push(await runFile(join(folder, file)))
  }
}
const together = files.filter((file) => !isAlone(file))
const commands = together.filter((file) => RUNS_COMMANDS.test(readFileSync(join(folder, file), 'utf8')))
const others = together.filter((file) => !commands.includes(file))
await Promise.all(
  Array.from({ length: jobs }, (_, i) => (i === 0 ? runFiles(commands, others) : runFiles(others, commands))),
)
await runFiles(files.filter(isAlone))

const slowest = results.toSorted((a, b) => b.seconds - a.seconds).slice(0, 5)
const sum = (field: 'passed' | 'failed') => results.reduce((total, result) => total + result[field], 0)
console.log(`\nSlowest: ${slowest.map(({ name, seconds }) => `${name} ${seconds.toFixed(1)} s`).join(', ')}`)
const failing = results.filter(({ failed }) => failed > 0).map(({ name }) => name)
if (failing.length > 0) console.log(`Failing: ${failing.join(', ')}`)
const skipped = results.flatMap(({ name, skipped }) => skipped.map((test) => `  ${name}: ${test}`))
console.log(`${((performance.now() - startedAt) / 1000).toFixed(0)} s, ${skipped.length} skipped`)
if (skipped.length > 0) console.log(skipped.join('\n'))
console.log(`${sum('passed')} passed, ${sum('failed')} failed`)
process.exitCode = sum('failed') > 0 || results.length === 0 ? 1 : 0
