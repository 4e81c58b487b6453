import type { MeshClient } from '../../lib/client/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { bold, print } from '../shared/output.js'
import { notice } from '../terminal/typing.js'

/** Machines that ask to join, at the prompt of a running `infermesh up`. */

const POLL_MS = 2000
/** How long Tab waits for the codes. */
const COMPLETE_MS = 1000

/**
 * Tells of each request once, until the signal aborts. Only a mesh of a LAN has any.
 * @param meshNow the client in use: another after the network was changed
 */
export function watchRequests(meshNow: () => MeshClient | undefined, over: AbortSignal): void {
  const told = new Set<string>()
  const timer = setInterval(() => void look().catch(() => {}), POLL_MS)
  over.addEventListener('abort', () => clearInterval(timer), { once: true })

  async function look(): Promise<void> {
    const mesh = meshNow()
    if (mesh?.network.kind !== 'lan') return
    const requests = await mesh.admin.admissions.list({}, { signal: over, timeoutMs: POLL_MS })
    for (const { code, name, role, address } of requests) {
      if (told.has(code)) continue
      told.add(code)
      notice(
        `${bold(name)} asks to join as ${role}, from ${address}. Where it shows ${bold(code)}: /accept ${code}; else /refuse ${code}`,
      )
    }
    const open = new Set(requests.map(({ code }) => code))
    for (const code of told) if (!open.has(code)) told.delete(code)
  }
}

/** `/accept` and `/refuse`, with the code that the machine shows. */
export function requestCommands(meshNow: () => MeshClient) {
  const mustBeGiven = (code: string) => {
    if (code === '') throw MeshError.BAD_REQUEST('Say which, by the code that the machine shows: /accept k7q-3mf')
    return code
  }
  // What fails or takes long offers nothing: somebody has only pressed Tab.
  const complete = async () => {
    const requests = await meshNow()
      .admin.admissions.list({}, { timeoutMs: COMPLETE_MS })
      .catch(() => [])
    return requests.map(({ code }) => code)
  }
  return {
    '/accept': {
      complete,
      argument: '<code>',
      help: 'let the machine in that shows this code',
      run: async (code: string, signal: AbortSignal) => {
        const { role, name } = await meshNow().admin.admissions.accept({ request: mustBeGiven(code) }, { signal })
        print(`${role} ${name} is a member of the mesh now`)
      },
    },
    '/refuse': {
      complete,
      argument: '<code>',
      help: 'turn that machine away',
      run: async (code: string, signal: AbortSignal) => {
        const { role, name } = await meshNow().admin.admissions.refuse({ request: mustBeGiven(code) }, { signal })
        print(`${role} ${name} was refused`)
      },
    },
  }
}
