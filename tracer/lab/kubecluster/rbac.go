package kubecluster

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/midhop/midhop/tracer/source/kube"
)

// Grant gives the hub's and the agent's service accounts the rights that midhop asks for, and nothing else.
func (p *ControlPlane) Grant(ctx context.Context) error {
	api, err := kubernetes.NewForConfig(p.Config(Admin))
	if err != nil {
		return err
	}
	for account, text := range map[string]string{"midhop": kube.CorrelatorRole, "midhop-agent": kube.AgentRole} {
		var role rbacv1.ClusterRole
		if err := yaml.UnmarshalStrict([]byte(text), &role); err != nil {
			return fmt.Errorf("the role of %s: %w", account, err)
		}
		if _, err := api.RbacV1().ClusterRoles().Create(ctx, &role, metav1.CreateOptions{}); err != nil {
			return err
		}
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "system:serviceaccount:midhop:" + account}},
		}
		if _, err := api.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}
