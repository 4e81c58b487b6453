import type { Command } from 'commander'
import type { MeshClient } from '../../lib/client/index.js'
import type { LimitUse } from '../../lib/protocol/index.js'
import { keyText } from '../shared/facts.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import {
  bold,
  counted,
  dim,
  durationText,
  print,
  printFacts,
  printJson,
  printTable,
  timeText,
  yellow,
} from '../shared/output.js'

type Told = Awaited<ReturnType<MeshClient['whoami']>>

/** A key that ends within this is told of in colour. */
const SOON_MS = 7 * 86_400_000

export function define(command: Command): void {
  command
    .addHelpText(
      'after',
      `
Limits are those of the key, of keys that it was made with, and of the user over all keys. All of them hold; each gateway
counts by itself, and this shows the one that answers.

Examples:
  infermesh whoami
  infermesh whoami --json | jq '.uses[] | select(.left == 0)'`,
    )
    .action(async (_options, self: Command) => {
      const common = optionsOf(self)
      const { told, gateway, address } = await withMesh(common, async (mesh, signal) => ({
        told: await mesh.whoami({ signal }),
        gateway: mesh.gateway?.name,
        address: mesh.address,
      }))
      if (common.json) printJson({ mesh: address, gateway, ...told })
      else printWhoami(told, address, gateway)
    })
}

function printWhoami(told: Told, address: string, gateway: string | undefined): void {
  const { user, role, keyId, scopes, day, month, total, uses } = told
  printFacts([
    ['user', `${bold(user)}${role === 'admin' ? ' (admin)' : ''}`],
    ['mesh', address],
    [keyId.startsWith('login:') ? 'token' : 'key', `${keyText(keyId)}${untilText(told.expiresAt)}`],
    ['may', scopes.join(', ') || 'nothing'],
    ['used', `today ${usedText(day)}, this month ${usedText(month)}, in all ${usedText(total)}`],
    ...modelTexts(told).map((text): [string, string] => ['models', text]),
  ])
  if (uses === undefined) return
  print()
  printTable(['LIMIT', 'OF', 'MOST', 'USED', 'LEFT', 'FREE AGAIN'], uses.map(row), 'No limits.')
  if (uses.length > 0 && gateway !== undefined) print(dim(`As the gateway ${gateway} counts; each counts by itself`))
}

function untilText(expiresAt: number | undefined): string {
  if (expiresAt === undefined) return ', until it is revoked'
  const text = `, until ${timeText(expiresAt)}`
  return expiresAt - Date.now() < SOON_MS ? yellow(text) : text
}

function usedText({ requests, promptTokens, completionTokens }: Told['day']): string {
  return `${promptTokens + completionTokens} tokens in ${counted(requests, 'request')}`
}

/** Whose limits name the only models that may be used. */
function modelTexts({ keyId, user, limits }: Told): string[] {
  const all = [
    { whose: `key ${keyText(keyId)}`, limits: limits.key },
    ...limits.parents.map((parent) => ({ whose: `key ${keyText(parent.keyId)}`, limits: parent.limits })),
    { whose: `user ${user}`, limits: limits.user },
  ]
  return all.flatMap(({ whose, limits: { models } }) =>
    models === undefined ? [] : [`${models.join(', ')} (${whose})`],
  )
}

const LIMITS: Record<LimitUse['limit'], string> = {
  requestsPerMinute: 'requests/min',
  tokensPerMinute: 'tokens/min',
  concurrentRequests: 'at a time',
  budget: 'tokens',
}

function row({ of, name, limit, period, most, used, left, resetsAt }: LimitUse): string[] {
  return [
    `${LIMITS[limit]}${period === undefined ? '' : `/${period}`}`,
    of === 'key' ? `key ${keyText(name)}` : `user ${name}`,
    String(most),
    String(used),
    left === 0 ? yellow('0') : String(left),
    freeText(resetsAt, period),
  ]
}

function freeText(resetsAt: number | undefined, period: LimitUse['period']): string {
  if (resetsAt === undefined) return '-'
  if (period !== undefined) return timeText(resetsAt)
  return `in ${durationText(Math.max(0, resetsAt - Date.now()))}`
}
