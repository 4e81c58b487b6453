import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { type FastifyInstance, fastify } from 'fastify'
import { z } from 'zod'
import { MeshError } from '../protocol/index.js'
import type { Facility } from './facility.js'

export const httpConfigSchema = z.strictObject({
  host: z.string().min(1),
  /** 0 picks a free port. */
  port: z.int().min(0).max(65_535),
})
export type HttpConfig = z.output<typeof httpConfigSchema>

/** A worker's HTTP server. Routes are added to `app` before the facility starts. */
export class Http implements Facility {
  readonly name = 'http'
  readonly app: FastifyInstance
  readonly #config: HttpConfig

  constructor(config: HttpConfig) {
    this.#config = config
    this.app = fastify({ logger: false, forceCloseConnections: true })
  }

  /** `http://host:port`, once started. */
  get url(): string {
    const address = this.app.server.address()
    if (address === null || typeof address === 'string') return ''
    const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
    return `http://${host}:${address.port}`
  }

  /** @throws MeshError PORT_IN_USE naming the process that has the port, where that can be known */
  async start(): Promise<void> {
    const { host, port } = this.#config
    try {
      await this.app.listen({ host, port })
    } catch (err) {
      const code = (err as NodeJS.ErrnoException).code
      if (code === 'EADDRINUSE') {
        const pid = listenerPid(port)
        const holder = pid === undefined ? 'by another process' : `by the process with pid ${pid}`
        throw MeshError.PORT_IN_USE(
          `${host}:${port} is in use ${holder}. Stop it, or choose another port (0 picks a free one)`,
          { pid },
        )
      }
      if (code === 'EACCES' || code === 'EADDRNOTAVAIL') {
        throw MeshError.CONFIG_INVALID(`${host}:${port} cannot be listened on: ${code}`, {}, { cause: err })
      }
      throw err
    }
  }

  async stop(): Promise<void> {
    await this.app.close()
  }
}

const LISTEN = '0A'

/** The process that listens on a TCP port, read from /proc; undefined where the system or the rights do not tell. */
function listenerPid(port: number): number | undefined {
  try {
    const inodes = new Set<string>()
    for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
      for (const line of readFileSync(table, 'utf8').split('\n').slice(1)) {
        const fields = line.trim().split(/\s+/)
        if (fields[3] === LISTEN && Number.parseInt(fields[1]?.split(':')[1] ?? '', 16) === port)
          inodes.add(`socket:[${fields[9]}]`)
      }
    }
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        for (const fd of readdirSync(`/proc/${pid}/fd`)) {
          if (inodes.has(readlinkSync(`/proc/${pid}/fd/${fd}`))) return Number(pid)
        }
      } catch {
        // Another user's process, or one that has just ended.
      }
    }
  } catch {
    // No /proc on this system.
  }
  return undefined
}
