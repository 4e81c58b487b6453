import { spawn } from 'node:child_process'
import { existsSync, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { z } from 'zod'
import type { MeshClient } from '../../lib/client/index.js'
import {
  complain,
  findLogin,
  findProfile,
  homeFiles,
  homePath,
  makePrivateDir,
  readAdminKey,
} from '../../lib/home/index.js'
import {
  isLoopbackHost,
  MeshError,
  messageOf,
  networkKindSchema,
  type WorkerStatus,
  workerStatusSchema,
} from '../../lib/protocol/index.js'
import { mustBeInPlace } from '../backup/moved.js'
import { Conversation } from '../shared/conversation.js'
import { command } from '../shared/hints.js'
import { type Common, openMesh, optionsOf } from '../shared/mesh.js'
import { bold, cyan, dim, interruptible, onTerminal, print, printJson, withSpinner, yellow } from '../shared/output.js'
import { gather, port } from '../shared/parse.js'
import { untilAdmitted } from '../supervisor/admission.js'
import type { Child } from '../supervisor/child.js'
import { LiveTable } from '../supervisor/live-table.js'
import { changeText } from '../supervisor/log.js'
import { type Plan, planWorkers, rememberPlan, type UpOptions } from '../supervisor/plan.js'
import { requestCommands, watchRequests } from '../supervisor/requests.js'
import { restartOnSignal } from '../supervisor/restart.js'
import { selfCheck } from '../supervisor/self-check.js'
import { Supervisor } from '../supervisor/supervisor.js'
import { notice } from '../terminal/typing.js'
import { printStatus } from './status.js'

/** What crashes of the background process left is emptied past this. */
const MAX_OUT_BYTES = 1024 * 1024

/** Set in the background process that `--detach` starts. */
const DETACHED = 'INFERMESH_DETACHED'

export function define(command: Command): void {
  command
    .option('--role <role[:name]>', 'auth, gateway, processor or metrics; can be repeated (default: all four)', gather)
    .option('--name <name>', 'name of this machine’s workers (default: their role)')
    .option('-d, --detach', 'go on in the background; `infermesh down` stops it')
    .option('--http-port <port>', 'port of the OpenAI-compatible HTTP API; 0: a free one (default: 8080)', port)
    .option('--metrics-port <port>', 'port of the Prometheus metrics; 0: a free one (default: 9464)', port)
    .option('--host <address>', 'address that these two listen on (default: 127.0.0.1)')
    .addOption(
      new Option(
        '--network <kind>',
        'who can find the mesh that this makes (default: local); later: `infermesh network`',
      ).choices(networkKindSchema.options),
    )
    .option('--bootstrap <host:port>', 'DHT node of a private network; can be repeated', gather)
    .option('--net-host <address>', 'this machine’s address in the LAN (default: the first)')
    .addOption(
      new Option('--gpu <kind>', 'what runs models (default: auto)').choices([
        'auto',
        'cuda',
        'vulkan',
        'metal',
        'off',
      ]),
    )
    .option('--set <facility.key=value>', 'any other setting of the workers; can be repeated', gather)
    .option('--show-key', 'print the whole admin key')
    .option('--no-check', 'do not ask the mesh a first question')
    .addHelpText(
      'after',
      `
The first time it makes a mesh of its own. In a terminal it ends in a chat; elsewhere it serves until SIGTERM.

Examples:
  infermesh up
  infermesh up --detach --http-port 0 --json
  infermesh up --network lan --host 0.0.0.0
  infermesh up --role processor --gpu cuda`,
    )
    .action(async (_options, self: Command) => up(optionsOf<RunOptions>(self)))
}

interface RunOptions extends UpOptions, Common {
  detach?: boolean
  showKey?: boolean
  check: boolean
}

/** Starts this machine's workers and stays with them, or leaves them in the background. */
export async function up(options: RunOptions): Promise<void> {
  const home = resolve(homePath(options.home))
  if (process.env[DETACHED] !== undefined && process.send !== undefined) return serveDetached(home, options)
  await mustBeInPlace(home)
  if (options.detach) return startDetached(home, options)

  const plan = planWorkers(home, options)
  const supervisor = new Supervisor(home, plan.specs)
  const stop = stopOnSignal(supervisor)
  const restarts = restartOnSignal(supervisor)
  const over = new AbortController()
  const session: Session = { mesh: undefined }
  try {
    await startInSight(supervisor, options.json === true)
    rememberPlanHere(home, plan)
    supervisor.on('change', sayChange)
    if (options.json) printJson(report(home, supervisor.statuses()))
    else printReport(home, supervisor.statuses(), options.showKey === true)
    if (hasKey(home)) session.mesh = await openMesh({ home })
    const after = afterStart(home, session, options, supervisor, stop, over.signal)
    await Promise.race([after, stop.requested, supervisor.hopeless, restarts.failed])
  } catch (err) {
    // Ctrl-C while the workers start is no failure of theirs.
    if (!stop.isRequested()) throw err
  } finally {
    supervisor.off('change', sayChange)
    over.abort()
    await session.mesh?.close()
    // A chat that SIGTERM ended may still be reading from the terminal.
    if (process.stdin.isTTY) process.stdin.setRawMode(false)
    process.stdin.destroy()
    await withSpinner('finishing what runs', options.json === true, supervisor.stop())
    restarts.release()
    stop.release()
  }
}

/** What `up` asks the mesh with. Another network takes another client. */
interface Session {
  mesh: MeshClient | undefined
}

/** Starts the workers; on a terminal a table shows how far each is. */
async function startInSight(supervisor: Supervisor, quiet: boolean): Promise<void> {
  const live = new LiveTable(supervisor.children, quiet)
  const draw = () => live.draw()
  supervisor.on('change', draw)
  try {
    await supervisor.start()
  } finally {
    supervisor.off('change', draw)
    live.end()
  }
}

/** The first question, and then a chat in a terminal; elsewhere nothing until a signal comes. */
async function afterStart(
  home: string,
  session: Session,
  options: RunOptions,
  supervisor: Supervisor,
  stop: Stop,
  over: AbortSignal,
): Promise<void> {
  const { mesh } = session
  const talks = onTerminal() && process.stdin.isTTY === true && options.json !== true
  if (mesh === undefined) {
    if (talks) print(dim(noKeyText(home)))
    return forever()
  }
  await selfCheck(mesh, checkOf(home, options, supervisor.statuses()), over)
  if (!talks) return await forever()
  print(dim(`Ask something, or /help. Leaving stops the workers; ${command('up --detach', home)} keeps them running.`))
  // From here on Ctrl-C is the conversation's.
  stop.leaveInterrupts()
  const conversation = new Conversation(mesh, {
    historyFile: homeFiles(home).chatHistory,
    commands: {
      ...requestCommands(() => session.mesh ?? mesh),
      '/status': {
        help: 'workers, addresses and models',
        run: async (_argument, signal) => printStatus(await (session.mesh ?? mesh).status({ signal })),
      },
      '/key': { help: 'the whole admin key', run: async () => print(readAdminKey(home)?.text ?? 'none') },
      '/restarts': {
        help: 'how often each worker had to be started again',
        run: async () => {
          for (const { role, name, restarts } of supervisor.children) print(`${role} ${name}: ${restarts}`)
        },
      },
    },
  })
  supervisor.on('restarted', () => {
    const { mesh: former } = session
    openMesh({ home }).then(
      (anew) => {
        session.mesh = anew
        conversation.use(anew)
        void former?.close()
        notice(dim(`The workers were started anew. The mesh is ${anew.network.kind} now.`))
      },
      (err) => complain(`infermesh: ${messageOf(err)}`),
    )
  })
  watchRequests(() => session.mesh, over)
  await conversation.run()
}

function checkOf(home: string, { check, json }: RunOptions, statuses: WorkerStatus[]) {
  return { home, asks: check, hasProcessor: statuses.some(({ role }) => role === 'processor'), quiet: json === true }
}

// --- in the background ---

/** What the background process tells the one that started it. */
const messageSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready'), statuses: z.array(workerStatusSchema) }),
  z.object({ type: z.literal('failed'), error: z.unknown() }),
])
type Message = z.infer<typeof messageSchema>

/** The background process: tells the process that started it how it went, then serves until a signal comes. */
async function serveDetached(home: string, options: RunOptions): Promise<void> {
  const tell = (message: Message) => new Promise<void>((resolve) => process.send?.(message, () => resolve()))
  const plan = planWorkers(home, options)
  const supervisor = new Supervisor(home, plan.specs)
  const stop = stopOnSignal(supervisor)
  const restarts = restartOnSignal(supervisor)
  try {
    await supervisor.start()
    rememberPlanHere(home, plan)
    // Whoever started it goes away with what is told here.
    await untilAdmitted(supervisor.children, stop.isRequested)
    await tell({ type: 'ready', statuses: supervisor.statuses() })
    process.disconnect?.()
    await Promise.race([stop.requested, supervisor.hopeless, restarts.failed])
  } catch (err) {
    if (process.connected) await tell({ type: 'failed', error: MeshError.from(err).toJSON() })
    if (!stop.isRequested()) throw err
  } finally {
    await supervisor.stop()
    restarts.release()
    stop.release()
    if (process.connected) process.disconnect?.()
  }
}

async function startDetached(home: string, options: RunOptions): Promise<void> {
  // Wrong options are said here, by the process that the person sees.
  planWorkers(home, options)
  const statuses = await withSpinner('starting the workers', options.json === true, launch(home))
  if (!options.json) printReport(home, statuses, options.showKey === true)
  if (!options.json) printUnlinked(statuses)
  if (hasKey(home)) {
    const mesh = await openMesh({ home })
    try {
      await interruptible((signal) => selfCheck(mesh, checkOf(home, options, statuses), signal))
    } finally {
      await mesh.close()
    }
  }
  if (options.json) printJson(report(home, statuses))
  else printHints(home)
}

/** Starts this same command as a background process, and waits until its workers are ready. @throws MeshError why not */
function launch(home: string): Promise<WorkerStatus[]> {
  const { logDir } = homeFiles(home)
  makePrivateDir(home)
  makePrivateDir(logDir)
  const log = openSync(homeFiles(home).supervisorOut, 'a', 0o600)
  if (fstatSync(log).size > MAX_OUT_BYTES) ftruncateSync(log)
  const args = process.argv.slice(2).filter((arg) => arg !== '--detach' && arg !== '-d')
  const child = spawn(process.execPath, [process.argv[1] ?? '', ...args, '--home', home], {
    stdio: ['ignore', log, log, 'ipc'],
    detached: true,
    windowsHide: true,
    env: { ...process.env, [DETACHED]: '1' },
  })
  return interruptible(
    (signal) =>
      new Promise<WorkerStatus[]>((resolve, reject) => {
        signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true })
        child.on('message', (message) => {
          const told = messageSchema.safeParse(message).data
          if (told?.type !== 'ready') return reject(MeshError.fromJSON(told?.error))
          child.disconnect()
          child.unref()
          resolve(told.statuses)
        })
        child.once('error', reject)
        child.once('exit', (code) =>
          reject(
            MeshError.INTERNAL(`The background process ended with code ${code}. ${command('logs', home)} may say why`),
          ),
        )
      }),
  )
}

// --- what is said ---

/** What `up --json` prints. `key` and `http` are absent where this home has none. */
function report(home: string, statuses: WorkerStatus[]) {
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

function printReport(home: string, statuses: WorkerStatus[], showKey: boolean): void {
  const lines: [string, string | undefined][] = [
    ['mesh', findProfile(home)?.address],
    ...addressesOf(statuses, 'http').map((http): [string, string] => ['OpenAI API', cyan(`${http}/v1`)]),
    ...addressesOf(statuses, 'metrics').map((metrics): [string, string] => ['metrics', metricsText(home, metrics)]),
    ['key', keyText(home, showKey)],
  ]
  for (const [name, value] of lines) if (value !== undefined) print(`${dim(name.padEnd(12))}${value}`)
  print()
}

/** Says of which workers the mesh was not found yet: they go on looking. */
function printUnlinked(statuses: WorkerStatus[]): void {
  for (const { role, name, links = [] } of statuses) {
    const authority = links.find((link) => link.role === 'auth')
    if (authority?.state !== 'down' || links.some(({ state }) => state !== 'down')) continue
    print(
      yellow(
        `${role} ${name} has found nobody of its mesh yet, and goes on looking${authority.reason === undefined ? '' : `: ${authority.reason}`}`,
      ),
    )
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

/** Says on standard error what happens to workers after the start. */
function sayChange(child: Child): void {
  const change = changeText(child)
  if (change !== undefined) complain(`infermesh: ${change}`)
}

// --- small things ---

/** That it is not remembered is no reason to stop what runs. */
function rememberPlanHere(home: string, plan: Plan): void {
  try {
    rememberPlan(home, plan)
  } catch (err) {
    complain(`infermesh: which workers to start here next time could not be written: ${messageOf(err)}`)
  }
}

/** The first SIGINT or SIGTERM asks for a stop in order, the second ends everything at once. */
function stopOnSignal(supervisor: Supervisor) {
  let requested = false
  let request: () => void = () => {}
  const promise = new Promise<void>((resolve) => {
    request = resolve
  })
  const onSignal = () => {
    if (requested) {
      supervisor.kill()
      process.exit(130)
    }
    requested = true
    request()
    // Also where the start is still under way.
    void supervisor.stop()
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  return {
    requested: promise,
    isRequested: () => requested,
    /** SIGTERM asks still. */
    leaveInterrupts: () => {
      process.off('SIGINT', onSignal)
    },
    release: () => {
      process.off('SIGTERM', onSignal)
      process.off('SIGINT', onSignal)
    },
  }
}

type Stop = ReturnType<typeof stopOnSignal>

function forever(): Promise<never> {
  return new Promise(() => {})
}

function addressesOf(statuses: WorkerStatus[], name: string): string[] {
  return statuses.flatMap(({ addresses }) => addresses[name] ?? [])
}

/** What to do with workers that go on in the background. */
function printHints(home: string): void {
  const stop = `${command('down', home)} stops it`
  if (hasKey(home)) return print(dim(`It goes on in the background: ${command('chat', home)} talks to it, ${stop}.`))
  print(dim(`It goes on in the background: ${command('status', home)} shows it, ${stop}.`))
  print(dim(noKeyText(home)))
}

/** How a machine without a key, which needs none to serve, comes to use the mesh. */
function noKeyText(home: string): string {
  const login = command('login <connect string>', home)
  return `This home has no API key, and needs none to serve. To use the mesh from here: \`infermesh keys create\` where the mesh was made, then ${login} with what it prints.`
}

function hasKey(home: string): boolean {
  const named = (process.env.INFERMESH_KEY ?? '') !== ''
  return named || findLogin(home) !== undefined || readAdminKey(home) !== undefined
}
