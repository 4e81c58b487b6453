import { existsSync } from 'node:fs'
import { complain, findLogin, findProfile, homeFiles, readAdminKey } from '../../lib/home/index.js'
import { isLoopbackHost, type WorkerStatus } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { bold, cyan, dim, print, printFacts, warn, yellow } from '../shared/output.js'
import { leftOut } from './admission.js'
import type { Child } from './child.js'
import { changeText } from './log.js'
import type { Supervisor } from './supervisor.js'

/** What `infermesh up` says of the workers that it has started. */

/** What `up --json` prints. `key` and `http` are absent where this home has none. */
export function reportOf(home: string, statuses: WorkerStatus[]) {
  const [http] = addressesOf(statuses, 'http')
  const [metrics] = addressesOf(statuses, 'metrics')
  return {
    mesh: findProfile(home)?.address,
    key: readAdminKey(home)?.text,
    endpoints: {
      http,
      openai: http === undefined ? undefined : `${http}/v1`,
      metrics,
    },
    workers: statuses.map(({ role, name, publicKey, pid, addresses }) => ({ role, name, publicKey, pid, addresses })),
  }
}

/** Shows where the mesh is, and which workers have found nobody of it yet. */
export function printReport(home: string, statuses: WorkerStatus[], showKey: boolean): void {
  printFacts([
    ['mesh', findProfile(home)?.address],
    ...addressesOf(statuses, 'http').map((http): [string, string] => ['OpenAI API', cyan(`${http}/v1`)]),
    ...addressesOf(statuses, 'metrics').map((metrics): [string, string] => ['metrics', metricsText(home, metrics)]),
    ['key', keyText(home, showKey)],
  ])
  print()
  printUnlinked(statuses)
}

/** Why workers are not started that were removed from the mesh. */
export function reasonsOf({ children }: Supervisor): string[] {
  return leftOut(children).map(({ role, name, reason }) => reason?.message ?? `${role} ${name} is no member`)
}

/** Says which workers are not started, because they were removed from the mesh. */
export function printLeftOut(reasons: readonly string[]): void {
  for (const reason of reasons) warn(`${reason}. The others go on without it`)
}

/** Says of which workers the mesh was not found yet: they go on looking. */
function printUnlinked(statuses: WorkerStatus[]): void {
  // Where the authority runs the others are linked within moments.
  if (statuses.some(({ role }) => role === 'auth')) return
  for (const { role, name, links = [] } of statuses) {
    const authority = links.find((link) => link.role === 'auth')
    if (authority?.state !== 'down' || links.some(({ state }) => state !== 'down')) continue
    const reason = authority.reason === undefined ? '' : `: ${authority.reason}`
    print(yellow(`${role} ${name} has found nobody of its mesh yet, and goes on looking${reason}`))
  }
}

/** Where the metrics are, and what they want where other machines can ask. */
function metricsText(home: string, url: string): string {
  const { metricsToken } = homeFiles(home)
  if (isLoopbackHost(new URL(url).hostname) || !existsSync(metricsToken)) return cyan(url)
  return `${cyan(url)}  ${dim(`(with the token in ${metricsToken})`)}`
}

function keyText(home: string, whole: boolean): string | undefined {
  const key = readAdminKey(home)
  if (key === undefined) return undefined
  if (whole) return bold(key.text)
  return `im_${key.id}_…  ${dim(`(in ${homeFiles(home).adminKey}; --show-key prints it)`)}`
}

function addressesOf(statuses: WorkerStatus[], name: string): string[] {
  return statuses.flatMap(({ addresses }) => addresses[name] ?? [])
}

/** Says what to do with workers that go on in the background. */
export function printHints(home: string): void {
  const stop = `${command('down', home)} stops it`
  if (hasKey(home)) return print(dim(`It goes on in the background: ${command('chat', home)} talks to it, ${stop}.`))
  print(dim(`It goes on in the background: ${command('status', home)} shows it, ${stop}.`))
  printNoKey(home)
}

/** Says how a machine without a key, which needs none to serve, comes to use the mesh. */
export function printNoKey(home: string): void {
  const login = command('login <connect string>', home)
  print(
    dim(
      `This home has no API key, and needs none to serve. To use the mesh from here: \`infermesh keys create\` where the mesh was made, then ${login} with what it prints.`,
    ),
  )
}

/** Whether there is a key to ask the mesh with. */
export function hasKey(home: string): boolean {
  const named = (process.env.INFERMESH_KEY ?? '') !== ''
  return named || findLogin(home) !== undefined || readAdminKey(home) !== undefined
}

/** Says on standard error what happens to a worker after the start. */
export function sayChange(child: Child): void {
  const change = changeText(child)
  if (change !== undefined) complain(`infermesh: ${change}`)
}
