// Package nodefile is the source that reads which nodes a cluster has from a file: a short YAML list, or what
// `kubectl get nodes -o json|yaml` prints. It must not know a Kubernetes API, nor derive addresses that the file does not
// hold.
//
// The short form:
//
//   - name: node-a
//     addresses: [192.0.2.11, "2001:db8::11"]
//     podCIDRs: [10.244.1.0/24]
//     labels: {topology.kubernetes.io/zone: eu-1b, cloud.google.com/gke-spot: "true"}
package nodefile
