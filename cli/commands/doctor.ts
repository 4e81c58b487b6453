import { createSocket } from 'node:dgram'
import { existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { MeshClient, type WorkerView } from '../../lib/client/index.js'
import {
  facilitiesIn,
  findProfile,
  homeFiles,
  homePath,
  openSecrets,
  readAdminKey,
  readHomeInvite,
  readRoles,
  readSettings,
  readStatuses,
  readStorePids,
  readSupervisor,
  settingsPath,
} from '../../lib/home/index.js'
import { MeshError, type WorkerStatus } from '../../lib/protocol/index.js'
import { type Common, clientOptions, optionsOf } from '../shared/mesh.js'
import { bytesText, dim, durationText, green, print, printJson, red, withSpinner, yellow } from '../shared/output.js'
import { unreadableEntries } from '../shared/unreadable.js'
import { isWorkerProcess, runningSupervisor, runningWorkers } from '../supervisor/state.js'

const NODE_MAJOR = 20
const LOW_DISK_BYTES = 1024 ** 3
const NO_DISK_BYTES = 64 * 1024 ** 2
const CLOCK_WARN_MS = 2000
const CLOCK_FAIL_MS = 60_000
const UNAVAILABLE = 69

interface Finding {
  check: string
  state: 'ok' | 'warn' | 'fail'
  message: string
  /** What to do about it. */
  advice?: string
}

export function define(command: Command): void {
  command
    .addHelpText(
      'after',
      `
Looks at Node, the home's files, ports, processes, the model, the GPU, the network and the mesh.
Exit code 69 where something must be mended.

Examples:
  infermesh doctor
  infermesh doctor --json | jq '.findings[] | select(.state != "ok")'`,
    )
    .action(async (_options, self: Command) => {
      const common = optionsOf(self)
      const home = homePath(common.home)
      const findings = await withSpinner('looking', common.json === true, examine(home, common))
      if (common.json) printJson({ findings })
      else for (const finding of findings) printFinding(finding)
      if (findings.some(({ state }) => state === 'fail')) process.exitCode = UNAVAILABLE
    })
}

async function examine(home: string, common: Common): Promise<Finding[]> {
  const workers = runningWorkers(home)
  return [
    nodeVersion(),
    ...secretFiles(home),
    ...unreadableFiles(home),
    diskSpace(home),
    ...processes(home, workers),
    ...(await ports(home, workers)),
    embeddedModel(),
    ...(await mesh(common)),
  ]
}

function nodeVersion(): Finding {
  const check = 'node'
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) {
    return { check, state: 'ok', message: `Node ${process.versions.node}` }
  }
  return {
    check,
    state: 'fail',
    message: `Node ${process.versions.node} is too old`,
    advice: `install Node ${NODE_MAJOR} or newer`,
  }
}

/** Files with secrets that others than their owner may read. */
function secretFiles(home: string): Finding[] {
  const check = 'permissions'
  if (!existsSync(home)) {
    return [{ check, state: 'ok', message: `${home} is not there yet`, advice: '`infermesh up` makes a mesh' }]
  }
  const open = openSecrets(home)
  if (open.length === 0) return [{ check, state: 'ok', message: 'secrets are readable by their owner only' }]
  return open.map((path) => ({
    check,
    state: 'fail',
    message: `${path} can be read by others`,
    advice: `chmod 600 ${path}; if others use this machine, replace what it holds`,
  }))
}

/** Files of the home that hold something else than they should. */
function unreadableFiles(home: string): Finding[] {
  const { configDir } = homeFiles(home)
  const readers: (() => unknown)[] = [
    ...[findProfile, readAdminKey, readHomeInvite, readRoles, readSupervisor].map((read) => () => read(home)),
    ...facilitiesIn(configDir).map((facility) => () => readSettings(settingsPath(configDir, facility))),
  ]
  const problems = [
    ...readers.map((read) => outcomeOf(read).problem),
    ...readStatuses(home).map((file) => ('problem' in file ? file.problem : undefined)),
  ]
  return problems
    .filter((problem) => problem !== undefined)
    .map(({ message }) => ({ check: 'files', state: 'fail', message }))
}

function outcomeOf<T>(read: () => T): { value?: T; problem?: MeshError } {
  try {
    return { value: read() }
  } catch (err) {
    return { problem: MeshError.from(err) }
  }
}

/** What a reader gives; undefined where it cannot, which `unreadableFiles` tells. */
function readable<T>(read: () => T): T | undefined {
  return outcomeOf(read).value
}

function diskSpace(home: string): Finding {
  const check = 'disk'
  let path = home
  while (!existsSync(path)) path = join(path, '..')
  const { bavail, bsize } = statfsSync(path)
  const free = bavail * bsize
  const message = `${bytesText(free)} free at ${path}`
  const advice = 'free some space: gateways refuse requests when they cannot record them'
  if (free < NO_DISK_BYTES) return { check, state: 'fail', message, advice }
  return free < LOW_DISK_BYTES ? { check, state: 'warn', message, advice } : { check, state: 'ok', message }
}

/** Who runs here, and what the files of processes that are gone say still. */
function processes(home: string, workers: WorkerStatus[]): Finding[] {
  const check = 'processes'
  const findings: Finding[] = []
  const supervisor = readable(() => runningSupervisor(home))
  const alive = new Set(workers.map(({ pid }) => pid))
  for (const file of readStatuses(home)) {
    if ('problem' in file || alive.has(file.status.pid)) continue
    findings.push({
      check,
      state: 'warn',
      message: `${file.path} was left by a worker that is gone`,
      advice: 'nothing: its next start replaces it. `infermesh logs` may say how it ended',
    })
  }
  if (supervisor !== undefined) {
    findings.push({ check, state: 'ok', message: `supervisor with pid ${supervisor.pid}, ${workers.length} workers` })
    for (const { role, name } of supervisor.roles) {
      if (workers.some((worker) => worker.role === role && worker.name === name)) continue
      findings.push({
        check,
        state: 'fail',
        message: `${role} ${name} does not run`,
        advice: '`infermesh logs` says why',
      })
    }
  } else if (workers.length > 0) {
    findings.push({ check, state: 'ok', message: `${workers.length} workers without a supervisor` })
  } else if (readable(() => findProfile(home)) !== undefined) {
    findings.push({
      check,
      state: 'warn',
      message: 'no workers run on this machine',
      advice: '`infermesh up` starts them',
    })
  }
  for (const { pid, name } of storesInUse(home, workers)) {
    findings.push({
      check,
      state: 'fail',
      message: `the store of ${name} is held by the process with pid ${pid}, which says nothing of itself`,
      advice: `\`kill ${pid}\` ends it, and lets the worker start`,
    })
  }
  return findings
}

/** Stores that a worker's process holds which has no status file: one that hangs in its start, or was forgotten. */
function storesInUse(home: string, workers: WorkerStatus[]): { pid: number; name: string }[] {
  return readStorePids(home)
    .filter(({ pid }) => isWorkerProcess(pid) && !workers.some((worker) => worker.pid === pid))
    .map(({ worker, pid }) => ({ pid, name: worker }))
}

/** The default ports of what does not run here yet. */
async function ports(home: string, workers: WorkerStatus[]): Promise<Finding[]> {
  const check = 'ports'
  const findings: Finding[] = []
  for (const [facility, role, fallback, flag] of [
    ['http', 'gateway', 8080, '--http-port'],
    ['metrics', 'metrics', 9464, '--metrics-port'],
  ] as const) {
    const running = workers.find((worker) => worker.role === role)
    if (running !== undefined) {
      findings.push({
        check,
        state: 'ok',
        message: `${role} listens at ${running.addresses[facility] ?? 'no address'}`,
      })
      continue
    }
    const port = configuredPort(home, facility) ?? fallback
    findings.push(
      (await isFree(port))
        ? { check, state: 'ok', message: `port ${port} is free for the ${role}` }
        : {
            check,
            state: 'warn',
            message: `port ${port}, which a ${role} would use, is taken`,
            advice: `\`infermesh up ${flag} 0\` takes a free one`,
          },
    )
  }
  return findings
}

function configuredPort(home: string, facility: string): number | undefined {
  const settings = readable(() => readSettings(settingsPath(homeFiles(home).configDir, facility)))
  return typeof settings?.port === 'number' ? settings.port : undefined
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

function embeddedModel(): Finding {
  const check = 'model'
  const dir = fileURLToPath(new URL('../../../models', import.meta.url))
  const file = existsSync(dir) ? readdirSync(dir).find((name) => name.endsWith('.gguf')) : undefined
  if (file === undefined) {
    return {
      check,
      state: 'fail',
      message: `no model file in ${dir}`,
      advice: 'install infermesh again; large files may be missing from the copy',
    }
  }
  const path = join(dir, file)
  // A checkout without large files holds a few lines of text in the model's place.
  if (readFileSync(path).subarray(0, 4).toString('latin1') !== 'GGUF') {
    return { check, state: 'fail', message: `${path} is no GGUF file`, advice: 'fetch it again: `git lfs pull`' }
  }
  return { check, state: 'ok', message: `${file}, ${bytesText(statSync(path).size)}` }
}

/** The network, the gateway and its clock, as a client of this home's mesh meets them. */
async function mesh(common: Common): Promise<Finding[]> {
  const udp = await canUseUdp()
  if (udp !== undefined) {
    return [
      { check: 'network', state: 'fail', message: `UDP cannot be used: ${udp}`, advice: 'allow it in the firewall' },
    ]
  }
  let client: MeshClient
  try {
    client = new MeshClient(clientOptions(common))
  } catch (err) {
    const failure = MeshError.from(err)
    return [{ check: 'mesh', state: 'warn', message: failure.message }]
  }
  try {
    const startedAt = performance.now()
    await client.connect()
    const connectMs = performance.now() - startedAt
    const { at, rttMs } = await client.ping()
    const skewMs = Math.abs(Date.now() - rttMs / 2 - at)
    const { workers } = await client.status()
    return [
      { check: 'mesh', state: 'ok', message: `gateway ${client.gateway?.name} found in ${durationText(connectMs)}` },
      {
        check: 'clock',
        state: skewMs > CLOCK_FAIL_MS ? 'fail' : skewMs > CLOCK_WARN_MS ? 'warn' : 'ok',
        message: `${durationText(skewMs)} apart from the gateway’s, round trip ${durationText(rttMs)}`,
        ...(skewMs > CLOCK_WARN_MS ? { advice: 'set the clocks by NTP: keys and invites expire by them' } : {}),
      },
      ...workers.flatMap(engine),
      ...workers.flatMap(unreadableEntries),
    ]
  } catch (err) {
    const failure = MeshError.from(err)
    return [{ check: 'mesh', state: 'fail', message: failure.message, advice: ADVICE[failure.code] }]
  } finally {
    await client.close()
  }
}

/** What runs a processor's models, and why a model failed. */
function engine({ role, name, state, load, reason }: WorkerView): Finding[] {
  if (state === 'down') {
    return [{ check: 'workers', state: 'warn', message: `${role} ${name} is down${reason ? `: ${reason}` : ''}` }]
  }
  const { gpu, models = [] } = load ?? {}
  const failed = models.filter((model) => model.state === 'failed')
  return [
    ...(gpu === undefined
      ? []
      : [
          {
            check: 'gpu',
            state: 'ok' as const,
            message: `processor ${name} uses ${[gpu.backend, ...gpu.devices].join(', ')}: ${gpu.reason}`,
          },
        ]),
    ...failed.map((model) => ({
      check: 'model',
      state: 'fail' as const,
      message: `${model.name} on ${name}: ${model.reason ?? 'it did not load'}`,
    })),
  ]
}

const ADVICE: Partial<Record<string, string>> = {
  DHT_UNREACHABLE: 'start the mesh where it was made, or check the network and the bootstrap address',
  MESH_NOT_FOUND: 'check the address, and that a gateway of the mesh runs',
  UNTRUSTED_GATEWAY: 'somebody else answers for this address: check it with whoever runs the mesh',
  HOLE_PUNCH_FAILED: 'run a gateway outside of these NATs, or use a network that lets UDP through',
}

/** @returns why not */
function canUseUdp(): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', (err) => resolve(err.message))
    socket.bind(0, () => socket.close(() => resolve(undefined)))
  })
}

function printFinding({ check, state, message, advice }: Finding): void {
  const mark = { ok: green('ok  '), warn: yellow('warn'), fail: red('fail') }[state]
  print(`${mark}  ${dim(check.padEnd(12))}${message}`)
  if (advice !== undefined) print(`${' '.repeat(18)}${dim(`→ ${advice}`)}`)
}
