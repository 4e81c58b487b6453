import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'
import { onTeardown } from './teardown.js'

/** The programs that tests start, and how they end. */

export const CLI = join(PACKAGE_ROOT, 'dist', 'cli', 'main.js')
/** What a worker needs to stop when it is asked to. */
const STOP_MS = 3000

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface Child {
  process: ChildProcess
  exited: Promise<Exit>
  /** What it has written so far. */
  readonly stdout: string
  readonly stderr: string
}

export interface SpawnOptions {
  /** Besides PATH and HOME, all that it gets of an environment. */
  env?: NodeJS.ProcessEnv
  cwd?: string
  /** Standard input; absent: none. `typed` leaves it open for the test to write to. */
  input?: string
}

/** Starts a program, which ends with the test at the latest. */
export function spawnProgram(t: Pick<Test, 'teardown'>, command: string[], options: SpawnOptions = {}): Child {
  const child = start(command, options)
  const { process: started, exited } = child
  onTeardown(t, async () => {
    // Asked first, so that it can end its own children and write what it measured.
    started.kill('SIGTERM')
    started.kill('SIGCONT')
    const timer = setTimeout(() => started.kill('SIGKILL'), STOP_MS)
    await exited
    clearTimeout(timer)
  })
  return child
}

/** Starts a Node program of the compiled tree, such as `worker.js`, which ends with the test at the latest. */
export function spawnNode(
  t: Pick<Test, 'teardown'>,
  script: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
  nodeArgs: string[] = [],
): Child {
  const path = join(PACKAGE_ROOT, 'dist', script)
  return spawnProgram(t, [process.execPath, '--enable-source-maps', ...nodeArgs, path, ...args], { env })
}

/** Runs a program to its end. */
export function runProgram(command: string[], options: SpawnOptions = {}): Promise<Exit> {
  return start(command, options).exited
}

/** Runs `infermesh <args>` to its end. @param options.home absent: one that does not exist */
export function infermesh(
  args: string[],
  options: { home?: string; key?: string; input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Exit> {
  const { home = '/nonexistent/infermesh', key = '', input, env } = options
  return runProgram([process.execPath, CLI, ...args], { input, env: { ...cliEnv(home, key), ...env } })
}

/** The environment of a command of a home. */
export function cliEnv(home: string, key = ''): NodeJS.ProcessEnv {
  return { INFERMESH_HOME: home, INFERMESH_MESH: '', INFERMESH_KEY: key, NO_COLOR: '1' }
}

function start(command: string[], { env, cwd, input }: SpawnOptions): Child {
  const [program, ...args] = command as [string, ...string[]]
  const child = spawn(program, args, {
    cwd,
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
  })
  const written = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (text: string) => {
      written[stream] += text
      if (stream === 'stderr' && process.env.TEST_LOG !== undefined) process.stderr.write(text)
    })
  }
  // One that ends without reading its input is no failure of the test.
  child.stdin?.on('error', () => {})
  if (input !== 'typed') child.stdin?.end(input)
  // Where this process crashes, what it started must not go on.
  const kill = (): void => {
    child.kill('SIGKILL')
  }
  process.once('exit', kill)
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      process.off('exit', kill)
      resolve({ code, signal, ...written })
    })
  })
  return {
    process: child,
    exited,
    get stdout() {
      return written.stdout
    },
    get stderr() {
      return written.stderr
    },
  }
}
