import { setTimeout as sleep } from 'node:timers/promises'
import { attacks, type Target } from './attacks.js'

/**
 * A process that attacks until it is ended: `attacker.js <target as JSON> <every how many ms>`. Each attack in turn, then
 * again, so that what an attack costs shows wherever it falls. What it did is told at the end, by name.
 */
const target: Target = JSON.parse(process.argv[2] ?? '{}')
const everyMs = Number(process.argv[3])
const done: Record<string, number> = {}

process.once('SIGTERM', () => {
  process.send?.(done)
  process.exit()
})
for (let i = 0; ; i++) {
  const names = Object.keys(attacks)
  const name = names[i % names.length] ?? ''
  // The next does not wait for this one to be answered: that is what the door's own bounds are for.
  void attacks[name]?.(target).catch(() => {})
  done[name] = (done[name] ?? 0) + 1
  await sleep(everyMs)
}
