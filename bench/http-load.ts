import { Agent, request } from 'node:http'

/** How a run of requests went. */
export interface LoadResult {
  /** Milliseconds from when each was due to the end of its answer: waiting for a free connection counts. */
  latencies: number[]
  /** Answers by status; 0: no answer. */
  statuses: Map<number, number>
  seconds: number
}

/**
 * Sends requests at a steady rate, whatever becomes of those before them, over a fixed number of kept connections.
 * @param perSecond requests each second
 */
export async function steadyLoad(options: {
  url: string
  headers: Record<string, string>
  body: string
  connections: number
  perSecond: number
  seconds: number
}): Promise<LoadResult> {
  const { url, body, connections, perSecond, seconds } = options
  const agent = new Agent({ keepAlive: true, maxSockets: connections, scheduling: 'fifo' })
  const headers = { ...options.headers, 'content-length': Buffer.byteLength(body) }
  const latencies: number[] = []
  const statuses = new Map<number, number>()
  const total = Math.round(perSecond * seconds)
  const startedAt = performance.now()
  let sent = 0
  let open = 0
  await new Promise<void>((resolve) => {
    const ended = (status: number, dueAt: number): void => {
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      if (status === 200) latencies.push(performance.now() - dueAt)
      if (--open === 0 && sent === total) resolve()
    }
    const send = (dueAt: number): void => {
      open++
      const one = request(url, { method: 'POST', agent, headers }, (response) => {
        response.resume()
        response.once('end', () => ended(response.statusCode ?? 0, dueAt))
      })
      one.once('error', () => ended(0, dueAt))
      one.end(body)
    }
    const tick = (): void => {
      const due = Math.min(total, 1 + Math.floor(((performance.now() - startedAt) / 1000) * perSecond))
      while (sent < due) send(startedAt + (sent++ * 1000) / perSecond)
      if (sent < total) setTimeout(tick, 1)
    }
    tick()
  })
  agent.destroy()
  return { latencies, statuses, seconds: (performance.now() - startedAt) / 1000 }
}
