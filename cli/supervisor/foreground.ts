import type { MeshClient } from '../../lib/client/index.js'
import { complain, homeFiles, readAdminKey } from '../../lib/home/index.js'
import { messageOf } from '../../lib/protocol/index.js'
import { canAsk } from '../shared/ask.js'
import type { ChatCommand } from '../shared/chat-commands.js'
import { Conversation } from '../shared/conversation.js'
import { command } from '../shared/hints.js'
import { openMesh } from '../shared/mesh.js'
import { dim, print, printJson, withSpinner } from '../shared/output.js'
import { printStatus } from '../shared/status.js'
import { notice } from '../terminal/typing.js'
import { untilAdmitted } from './admission.js'
import { LiveTable } from './live-table.js'
import { keepPlan, planWorkers, type RunOptions } from './plan.js'
import { hasKey, printLeftOut, printNoKey, printReport, reasonsOf, reportOf, sayChange } from './report.js'
import { requestCommands, watchRequests } from './requests.js'
import { restartOnSignal } from './restart.js'
import { selfCheck } from './self-check.js'
import { type Stop, stopOnSignal } from './stop.js'
import { Supervisor } from './supervisor.js'

/** `infermesh up` in a terminal, or under systemd or a container: the workers live as long as it does. */

/** What it asks the mesh with. Another network takes another client. */
interface Session {
  mesh: MeshClient | undefined
}

/** Starts the workers and stays with them until a signal comes or the chat ends. @throws MeshError why it cannot go on */
export async function serveInForeground(home: string, options: RunOptions): Promise<void> {
  const plan = planWorkers(home, options)
  const supervisor = new Supervisor(home, plan.specs)
  const stop = stopOnSignal(supervisor)
  const restarts = restartOnSignal(supervisor)
  const over = new AbortController()
  const session: Session = { mesh: undefined }
  const quiet = options.json === true
  try {
    await startInSight(supervisor, quiet)
    keepPlan(home, plan)
    // Where this machine was removed from the mesh nothing else is worth saying.
    await withSpinner('looking for the mesh', quiet, untilAdmitted(supervisor.children, stop.isRequested))
    supervisor.on('change', sayChange)
    printLeftOut(reasonsOf(supervisor))
    if (quiet) printJson(reportOf(home, supervisor.statuses()))
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
    await withSpinner('finishing what runs', quiet, supervisor.stop())
    restarts.release()
    stop.release()
  }
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
  const quiet = options.json === true
  const talks = canAsk() && !quiet
  if (mesh === undefined) {
    if (!quiet) printNoKey(home)
    return forever()
  }
  await selfCheck(mesh, { home, asks: options.check, statuses: supervisor.statuses(), quiet }, over)
  if (!talks) return forever()
  print(dim(`Ask something, or /help. Leaving stops the workers; ${command('up --detach', home)} keeps them running.`))
  // From here on Ctrl-C is the conversation's.
  stop.leaveInterrupts()
  const meshNow = () => session.mesh ?? mesh
  const conversation = new Conversation(mesh, {
    historyFile: homeFiles(home).chatHistory,
    commands: commandsFor(home, supervisor, meshNow),
  })
  supervisor.on('restarted', () => {
    const { mesh: former } = session
    const follow = async () => {
      const anew = await openMesh({ home })
      session.mesh = anew
      conversation.use(anew)
      void former?.close()
      // Who is told so may ask at once.
      await selfCheck(anew, { home, asks: false, statuses: supervisor.statuses(), quiet: true }, over)
      notice(dim(`The workers were started anew. The mesh is ${anew.network.kind} now.`))
    }
    follow().catch((err: unknown) => {
      if (!over.aborted) complain(`infermesh: ${messageOf(err)}`)
    })
  })
  watchRequests(meshNow, over)
  await conversation.run()
}

/** What the chat of `up` understands besides what every chat does. */
function commandsFor(home: string, supervisor: Supervisor, meshNow: () => MeshClient): Record<string, ChatCommand> {
  return {
    ...requestCommands(meshNow),
    '/status': {
      help: 'workers, addresses and models',
      run: async (_argument, signal) => printStatus(await meshNow().status({ signal })),
    },
    '/key': { help: 'the whole admin key', run: async () => print(readAdminKey(home)?.text ?? 'none') },
    '/restarts': {
      help: 'how often each worker had to be started again',
      run: async () => {
        for (const { role, name, restarts } of supervisor.children) print(`${role} ${name}: ${restarts}`)
      },
    },
  }
}

function forever(): Promise<never> {
  return new Promise(() => {})
}
