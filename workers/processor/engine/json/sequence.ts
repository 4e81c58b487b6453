import type { GrammarRules } from './rules.js'

/** Members in a fixed order, each of which comes or may come, with how many there are. */

/** Between two members. */
export const COMMA = 'ws "," ws '

export interface Choice {
  readonly text: string
  readonly required: boolean
}

/**
 * @param top counts above this one make no difference
 * @param max how many may come
 * @param end what follows once all have had their turn, by how many came; undefined where it cannot end so
 * @returns undefined where nothing can be made of them
 */
export function sequence(
  rules: GrammarRules,
  members: readonly Choice[],
  { top, max, path }: { top: number; max: number; path: string },
  end: (count: number) => string | undefined,
): string | undefined {
  rules.budget.spend(path, members.length * Math.min(top, members.length))
  let row = Array.from({ length: Math.min(top, members.length) + 1 }, (_, count) => end(count))
  for (let at = members.length - 1; at >= 0; at--) {
    const { text, required } = members[at] ?? { text: '""', required: false }
    const after = row.map((one) => (one === undefined ? undefined : rules.rule(one || '""')))
    row = Array.from({ length: Math.min(top, at) + 1 }, (_, count) => {
      const next = count < max ? after[Math.min(count + 1, top)] : undefined
      const here = next === undefined ? undefined : `${count > 0 ? COMMA : ''}${text} ${next}`
      const without = required ? undefined : after[count]
      return here === undefined ? without : without === undefined ? here : `${here} | ${without}`
    })
  }
  const [whole] = row
  return whole === undefined ? undefined : rules.rule(whole || '""')
}
