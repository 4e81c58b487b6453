import {
  defaultModelSchema,
  type Member,
  type MemberNode,
  type MeshProfile,
  type Model,
  memberSchema,
  modelSchema,
  networkSchema,
  nodesSchema,
  type Role,
} from '../protocol/index.js'
import { applyTo, BeeView } from './bee-view.js'

/** A field of a later version may narrow what a member may do: an entry that has one is not read. */
const memberEntrySchema = memberSchema.strict()

/** Keys of the directory's entries. */
export const directoryKeys = {
  member: (publicKey: string) => `member/${publicKey}`,
  model: (name: string) => `model/${name}`,
  defaultModel: () => 'default/model',
  nodes: () => 'nodes/mesh',
  network: () => 'network/mesh',
}

/**
 * The directory as everyone reads it. Its blocks are signed with the key that is the mesh's address, so what it says,
 * the authority said.
 */
export class Directory extends BeeView {
  override readonly store = 'directory'
  readonly members = new Map<string, Member>()
  readonly models = new Map<string, Model>()
  readonly #defaults = new Map<string, { name: string; chosen?: boolean | undefined }>()
  readonly #nodes = new Map<string, { nodes: MemberNode[] }>()
  readonly #networks = new Map<string, MeshProfile['network']>()

  /** True once anything has been read: an empty directory admits nobody. */
  get known(): boolean {
    return this.members.size > 0
  }

  /** The model of requests that name none, whether it is here now or not; undefined before there was one. */
  get defaultModel(): string | undefined {
    return this.#defaults.get('model')?.name
  }

  /** Whether an admin has chosen it. */
  get isDefaultChosen(): boolean {
    return this.#defaults.get('model')?.chosen === true
  }

  /** Where the authority and the gateways were seen last: members only, and as the roles that they have now. */
  get nodes(): MemberNode[] {
    const nodes = this.#nodes.get('mesh')?.nodes ?? []
    return nodes.filter(({ publicKey, role }) => this.member(publicKey)?.role === role)
  }

  /** What the mesh is found on, or will be once its authority has started anew; undefined where early builds made it. */
  get network(): MeshProfile['network'] | undefined {
    return this.#networks.get('mesh')
  }

  /** Whether this member may be given a model's requests. */
  mayServe(publicKey: string, model: string): boolean {
    const member = this.member(publicKey)
    return member !== undefined && (member.trust !== 'guest' || (member.models?.includes(model) ?? false))
  }

  /** The member with this key, unless its time is over. */
  member(publicKey: string, now = Date.now()): Member | undefined {
    const member = this.members.get(publicKey)
    return member && inForce(member, now) ? member : undefined
  }

  /** Members of one role that are in force. */
  membersWithRole(role: Role, now = Date.now()): Member[] {
    return [...this.members.values()].filter((member) => member.role === role && inForce(member, now))
  }

  protected override clear(): void {
    for (const map of [this.members, this.models, this.#defaults, this.#nodes, this.#networks]) map.clear()
  }

  protected override apply(kind: string, id: string, value: Buffer | undefined): void {
    if (kind === 'member') applyTo(this.members, id, value, memberEntrySchema, ({ publicKey }) => publicKey)
    else if (kind === 'model') applyTo(this.models, id, value, modelSchema, ({ name }) => name)
    else if (kind === 'default') applyTo(this.#defaults, id, value, defaultModelSchema)
    else if (kind === 'network') applyTo(this.#networks, id, value, networkSchema)
    else if (kind === 'nodes') applyTo(this.#nodes, id, value, nodesSchema)
    // Other kinds belong to later versions.
  }
}

function inForce(member: Member, now: number): boolean {
  return member.notAfter === undefined || member.notAfter > now
}
