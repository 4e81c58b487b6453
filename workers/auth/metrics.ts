import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { ROLES, type Role } from '../../lib/protocol/index.js'

export interface AuthMetrics {
  storeOp(op: string, seconds: number): void
  folded(counts: { folded: number; malformed: number }): void
  joinRefused(reason: string): void
  /** @param outcome `ok`, or the code of the error */
  login(outcome: string): void
}

/** What the series of refusals and logins are there for from the start. */
const JOIN_REFUSED = ['unknown', 'removed', 'INVITE_INVALID', 'CONFLICT', 'RATE_LIMITED', 'DISK_FULL']
const LOGIN_OUTCOMES = ['ok', 'LOGIN_FAILED', 'RATE_LIMITED', 'BUSY']

/** @param sources read whenever the metrics are collected */
export function registerMetrics(
  registry: Registry,
  sources: { members: (role: Role) => number; journalLag: () => number },
): AuthMetrics {
  const op = new Histogram({
    name: 'infermesh_store_op_seconds',
    help: 'Time of one write to the worker’s store.',
    labelNames: ['op'],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
    registers: [registry],
  })
  const records = new Counter({
    name: 'infermesh_journal_records_folded_total',
    help: 'Records read from the gateways’ journals: added to the usage, or skipped because they could not be read.',
    labelNames: ['outcome'],
    registers: [registry],
  })
  const refused = new Counter({
    name: 'infermesh_join_refused_total',
    help: 'Workers that asked to join and were refused.',
    labelNames: ['reason'],
    registers: [registry],
  })
  const logins = new Counter({
    name: 'infermesh_logins_total',
    help: 'Attempts to log in with a name and password.',
    labelNames: ['outcome'],
    registers: [registry],
  })
  const members = new Gauge({
    name: 'infermesh_members',
    help: 'Members listed in the directory.',
    labelNames: ['role'],
    registers: [registry],
    collect: () => {
      for (const role of ROLES) members.set({ role }, sources.members(role))
    },
  })
  const lag = new Gauge({
    name: 'infermesh_replication_lag_blocks',
    help: 'Blocks that are known to exist and have not been read yet.',
    labelNames: ['core'],
    registers: [registry],
    collect: () => {
      lag.set({ core: 'journal' }, sources.journalLag())
    },
  })
  for (const store of ['accounts', 'directory']) op.zero({ op: `${store}.write` })
  for (const outcome of ['folded', 'malformed']) records.inc({ outcome }, 0)
  for (const reason of JOIN_REFUSED) refused.inc({ reason }, 0)
  for (const outcome of LOGIN_OUTCOMES) logins.inc({ outcome }, 0)
  return {
    storeOp: (name, seconds) => op.observe({ op: name }, seconds),
    folded: ({ folded, malformed }) => {
      records.inc({ outcome: 'folded' }, folded)
      records.inc({ outcome: 'malformed' }, malformed)
    },
    joinRefused: (reason) => refused.inc({ reason }),
    login: (outcome) => logins.inc({ outcome }),
  }
}
