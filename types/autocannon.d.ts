/** What the benches use of it. */
declare module 'autocannon' {
  export interface Result {
    /** Answers in each second. */
    requests: { average: number; total: number }
    /** Milliseconds. */
    latency: { p50: number; p97_5: number; p99: number }
    non2xx: number
    errors: number
  }

  export default function autocannon(options: {
    url: string
    method: 'POST'
    headers: Record<string, string>
    body: string
    connections: number
    /** Seconds. */
    duration: number
  }): Promise<Result>
}
