package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
)

// metricsServer is metrics-server's own command with one more flag: its --metric-resolution refuses anything below 10 s,
// which is sound for a fleet and slow for a cluster of a few nodes where somebody watches the autoscaler at work.
// The kubelet measures containers when it is asked, so nothing but the period of the questions has to change.
func metricsServer(ctx context.Context) *cobra.Command {
	opts := options.NewOptions()
	opts.MetricResolution = 10 * time.Second
	var scrapeInterval time.Duration
	command := &cobra.Command{
		Use:          "metrics-server",
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			if errs := opts.Validate(); len(errs) > 0 {
				return errs[0]
			}
			config, err := opts.ServerConfig()
			if err != nil {
				return err
			}
			config.MetricResolution = scrapeInterval
			server, err := config.Complete()
			if err != nil {
				return err
			}
			return server.RunUntil(ctx.Done())
		},
	}
	for _, flags := range opts.Flags().FlagSets {
		command.Flags().AddFlagSet(flags)
	}
	command.Flags().DurationVar(&scrapeInterval, "scrape-interval", 10*time.Second, "how often every kubelet is asked; may be below 10s")
	return command
}
