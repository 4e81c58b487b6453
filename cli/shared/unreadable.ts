import type { WorkerView } from '../../lib/client/index.js'

/** What a worker cannot read of the mesh's stores, as a finding of `doctor`. */
export function unreadableEntries({ role, name, version, load }: WorkerView) {
  const count = load?.unreadable
  if (count === undefined) return []
  return [
    {
      check: 'stores',
      state: 'warn' as const,
      message: `${role} ${name}${version === undefined ? '' : ` (version ${version})`} cannot read ${count === 1 ? 'an entry' : `${count} entries`} of the directory or the accounts, and refuses whoever they are about`,
      advice: `upgrade it to the authority’s version; \`infermesh logs ${role}-${name}\` names the entries`,
    },
  ]
}
