package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/midhop/midhop/tracer/event"
)

// Remedies that several rules share. Each says when, what, what it brings, what it risks and what it needs.

// closeSockets ends connections that are lost and do not know it.
func closeSockets(peer netip.Addr, n int) event.Remedy {
	what := "close the dead sockets, so that their clients reconnect instead of waiting"
	if n > 0 {
		what = fmt.Sprintf("close the dead sockets, so that %s reconnect instead of waiting", count(n, "connection"))
	}
	return event.Remedy{
		When: "now", Text: what, Command: closeCommand(peer),
		Effect: "applications get an error at once instead of after the keepalive or retransmission clock",
		Risk:   "low: only sockets that are dead, 50 a second; whoever is disconnected reconnects at once",
		Needs:  "root on each machine that holds them; the plan is shown before anything is closed",
	}
}

// closeCommand closes what is dead behind a peer's address and nothing else.
func closeCommand(peer netip.Addr) string {
	if !peer.IsValid() {
		return ""
	}
	return "midhop relief --via " + arg(peer.String())
}

// shorterClocks lets sockets notice earlier.
func shorterClocks() event.Remedy {
	return event.Remedy{
		When: "soon", Text: "let idle and writing sockets notice earlier: TCP_USER_TIMEOUT of 30 s on the server's sockets, or net.ipv4.tcp_retries2=8 in the pod",
		Effect: "a writing socket notices after 30 s, or about 100 s, instead of 15 minutes",
		Risk:   "low: peers that are away for longer lose their connection",
		Needs:  "a change of the application, or of the pod's securityContext.sysctls (tcp_retries2 is not among the safe ones: the kubelet has to allow it)",
	}
}

// spreadClients keeps all clients from coming back at one moment.
func spreadClients() event.Remedy {
	return event.Remedy{
		When: "soon", Text: "let clients reconnect after a random pause",
		Effect: "the remaining nodes and pods are not met by all of them at once", Risk: "none", Needs: "a change of the clients",
	}
}

// outOfMiddle takes nodes out of the path of other nodes' pods.
func outOfMiddle(platform string) event.Remedy {
	direct := map[string]string{
		"gke": "container-native: a VPC-native cluster and the annotation cloud.google.com/neg",
		"eks": "container-native: the AWS Load Balancer Controller with target type ip, and the VPC CNI",
		"aks": "container-native: Azure CNI and Application Gateway for Containers; the standard Load Balancer reaches nodes only",
	}
	needs := "Local: a pod of the service on every node that the balancer uses"
	if d, ok := direct[platform]; ok {
		needs += "; " + d
	} else {
		needs += "; container-native: GKE: a VPC-native cluster with NEGs; EKS: target type ip; AKS: Application Gateway for Containers; bare metal: none, there Local with MetalLB or a BGP-speaking router"
	}
	return event.Remedy{
		When: "cure", Text: cureText,
		Effect: "what happens to a node ends only the connections of its own pods",
		Risk:   "medium: with Local, traffic is spread by node and not by pod",
		Needs:  needs,
	}
}

// outOfBalancer takes a node out of the balancer's backends.
func outOfBalancer(name, effect string) event.Remedy {
	return event.Remedy{
		When: "now", Text: "take " + name + " out of the load balancer",
		Command: "kubectl label node " + arg(name) + " node.kubernetes.io/exclude-from-external-load-balancers=true",
		Effect:  effect,
		Risk:    "low: the other nodes carry its share",
		Needs:   "a service of type LoadBalancer whose controller honours the label (GKE, EKS and AKS do; on bare metal MetalLB does)",
	}
}

// noSpotInFront keeps nodes that may vanish from carrying other nodes' connections.
func noSpotInFront(node event.Node) event.Remedy {
	needs := map[string]string{
		"gke": "enough other nodes for the balancer; with instance groups as backends, leave the spot pool's group out",
		"eks": "enough other nodes for the balancer; with target type instance, the controller's node selector annotation",
		"aks": "enough other nodes for the balancer; the label exclude-from-external-load-balancers on the spot pool",
	}[node.Platform]
	if needs == "" {
		needs = "enough other nodes for the balancer"
	}
	return event.Remedy{
		When: "cure", Text: "keep " + node.Spot + " nodes out of the load balancer's backends",
		Effect: "nodes that may vanish at any time carry no connection of other nodes' pods",
		Risk:   "low", Needs: needs,
	}
}
