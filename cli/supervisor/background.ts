import { spawn } from 'node:child_process'
import { fstatSync, ftruncateSync, openSync } from 'node:fs'
import { z } from 'zod'
import { homeFiles, makePrivateDir } from '../../lib/home/index.js'
import { MeshError, workerStatusSchema } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { loadClient, openMesh } from '../shared/mesh.js'
import { interruptible, printJson, withSpinner } from '../shared/output.js'
import { untilAdmitted } from './admission.js'
import { keepPlan, planWorkers, type RunOptions } from './plan.js'
import { hasKey, printHints, printLeftOut, printReport, reasonsOf, reportOf } from './report.js'
import { restartOnSignal } from './restart.js'
import { selfCheck } from './self-check.js'
import { stopOnSignal } from './stop.js'
import { Supervisor } from './supervisor.js'

/** `infermesh up --detach`: a process in the background that runs the workers, and the one that starts it. */

/** What crashes of the background process left is emptied past this. */
const MAX_OUT_BYTES = 1024 * 1024

/** Set in the background process. */
const DETACHED = 'INFERMESH_DETACHED'

/** What the background process tells the one that started it. */
const messageSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready'), statuses: z.array(workerStatusSchema), leftOut: z.array(z.string()) }),
  z.object({ type: z.literal('failed'), error: z.unknown() }),
])
type Message = z.infer<typeof messageSchema>
type Started = Extract<Message, { type: 'ready' }>

/** Whether this process is the one in the background. */
export function isBackground(): boolean {
  return process.env[DETACHED] !== undefined && process.send !== undefined
}

/** The background process: tells the process that started it how it went, then serves until a signal comes. */
export async function serveInBackground(home: string, options: RunOptions): Promise<void> {
  const tell = (message: Message) => new Promise<void>((resolve) => process.send?.(message, () => resolve()))
  const plan = planWorkers(home, options)
  const supervisor = new Supervisor(home, plan.specs)
  const stop = stopOnSignal(supervisor)
  const restarts = restartOnSignal(supervisor)
  try {
    await supervisor.start()
    keepPlan(home, plan)
    // Whoever started it goes away with what is told here.
    await untilAdmitted(supervisor.children, stop.isRequested)
    await tell({ type: 'ready', statuses: supervisor.statuses(), leftOut: reasonsOf(supervisor) })
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

/** Starts the workers in the background, has the mesh asked, and says where it is. @throws MeshError why it is not there */
export async function startInBackground(home: string, options: RunOptions): Promise<void> {
  // Wrong options are said here, by the process that the person sees.
  planWorkers(home, options)
  const quiet = options.json === true
  const { statuses, leftOut } = await withSpinner('starting the workers', quiet, launch(home))
  printLeftOut(leftOut)
  if (!quiet) printReport(home, statuses, options.showKey === true)
  if (hasKey(home)) {
    const mesh = await openMesh({ home })
    try {
      await interruptible((signal) => selfCheck(mesh, { home, asks: options.check, statuses, quiet }, signal))
    } finally {
      await mesh.close()
    }
  }
  if (quiet) printJson(reportOf(home, statuses))
  else printHints(home)
}

/** Starts this same command as a background process, and waits until its workers are ready. @throws MeshError why not */
function launch(home: string): Promise<Started> {
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
  // A processor core is free until the workers are started.
  loadClient()
  return interruptible(
    (signal) =>
      new Promise<Started>((resolve, reject) => {
        signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true })
        child.on('message', (message) => {
          const told = messageSchema.safeParse(message).data
          if (told?.type !== 'ready') return reject(MeshError.fromJSON(told?.error))
          child.disconnect()
          child.unref()
          resolve(told)
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
