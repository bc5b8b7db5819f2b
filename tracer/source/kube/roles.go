package kube

// CorrelatorRole is all that midhop needs to name what it sees in a whole cluster: to list and watch, and to read the Lease
// of a node that is suspected. RBAC cannot bind pods to a node, so an agent's role is smaller by kinds only.
const CorrelatorRole = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: midhop
rules:
- apiGroups: [""]
  resources: [nodes, pods, services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [cilium.io]
  resources: [ciliumnodes]
  verbs: [list, watch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [list]
`

// AgentRole is what an agent needs where a hub knows the cluster: its own Node and its own pods.
const AgentRole = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: midhop-agent
rules:
- apiGroups: [""]
  resources: [nodes, pods]
  verbs: [list, watch]
- apiGroups: [cilium.io]
  resources: [ciliumnodes]
  verbs: [list, watch]
`
