// Package kubecluster runs a real control plane over the lab's namespaces: kube-apiserver with an etcd inside, kube-proxy
// on every node, kube-controller-manager where a test wants its verdicts, and kubectl for what is printed for it. It is for
// tests only, in a module of its own, and plays nothing but the kubelets, of which the lab's nodes have none.
package kubecluster
