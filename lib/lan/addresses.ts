import { networkInterfaces } from 'node:os'

/** Interfaces of containers, virtual machines and tunnels, as their makers name them: other machines are rarely behind one. */
const VIRTUAL = /^(docker|br-|veth|virbr|vmnet|vboxnet|vEthernet|utun|tun|tap|tailscale|wg|zt)/

/** This machine's IPv4 addresses but loopback. The first is the one that others of the LAN most likely reach it at. */
export function lanAddresses(): string[] {
  const { all } = ownAddresses()
  return all
}

/** The same, and without those of containers, virtual machines and tunnels. */
export function ownAddresses(): { all: string[]; likely: string[] } {
  const found = Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    addresses
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => ({ name, address })),
  )
  const isVirtual = ({ name }: { name: string }) => VIRTUAL.test(name)
  const likely = found.filter((one) => !isVirtual(one)).map(({ address }) => address)
  return { all: [...likely, ...found.filter(isVirtual).map(({ address }) => address)], likely }
}

/** Whether an IPv4 address is one of this machine's own, loopback included. */
export function isOwnIpv4(address: string): boolean {
  return /^127(\.\d{1,3}){3}$/.test(address) || lanAddresses().includes(address)
}
