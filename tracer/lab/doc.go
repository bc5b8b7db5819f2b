// Package lab is a small Kubernetes-shaped cluster in network namespaces of this machine: nodes, pods, clients and a
// pass-through balancer with real sockets, real NAT, midhop running on every node, and a fault on demand. It must not know
// how stalls are judged: what it breaks, and when, reaches neither the Engine nor any agent.
//
// # What stands where
//
// Everything is made inside namespaces of the lab's own, so the machine's network namespace is never touched, runs
// may stand side by side with equal addresses, and whatever dies takes its links and rules along.
//
//	    clients            balancer
//	    (hosts)            (35.191.0.0/16)
//	       |                  |
//	+------+---- fabric ------+------+     routes the service address by the client's port: the pass-through
//	|            bridge              |     balancer; fixed MACs, permanent neighbours: what dies is a silent hole
//	+---+------------+-----------+---+
//	    |            |           |
//	  node-a       node-b      node-c      a host each: net, PID, mount and UTS namespace, own /proc, boot_id
//	  agent        agent       agent       the midhop binary with three capabilities, facts into a pipe
//	               cni0        cni0
//	               chat        caller      pods: processes with a network namespace of their own
//
// A host is a process tree: its first process is this binary again ([ChildMain]), which starts others as it is told over
// a socket pair. When the lab dies, however it dies, that socket closes and the tree with all its namespaces goes.
package lab
