package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
)

// metricsServer is metrics-server's own command with one more flag: its --metric-resolution refuses anything below 10 s,
// which is sound for a fleet and slow for a cluster of a few nodes where somebody watches the autoscaler at work.
// The kubelet measures containers when it is asked, so nothing but the period of the questions has to change.
// By SIGUSR1 it becomes one whose measurements are an hour old, and by SIGUSR2 itself again.
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
			server.Handler.FullHandlerChain = stale(server.Handler.FullHandlerChain)
			return server.RunUntil(ctx.Done())
		},
	}
	for _, flags := range opts.Flags().FlagSets {
		command.Flags().AddFlagSet(flags)
	}
	command.Flags().DurationVar(&scrapeInterval, "scrape-interval", 10*time.Second, "how often every kubelet is asked; may be below 10s")
	return command
}

var timestamp = regexp.MustCompile(`"timestamp":"[^"]+"`)

// stale lets what is measured be an hour old while a signal says so.
func stale(fresh http.Handler) http.Handler {
	var isStale atomic.Bool
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for received := range signals {
			isStale.Store(received == syscall.SIGUSR1)
		}
	}()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isStale.Load() {
			fresh.ServeHTTP(w, r)
			return
		}
		r.Header.Set("Accept", "application/json")
		r.Header.Del("Accept-Encoding")
		answer := httptest.NewRecorder()
		fresh.ServeHTTP(answer, r)
		hourAgo := strconv.Quote(time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
		body := timestamp.ReplaceAll(answer.Body.Bytes(), []byte(`"timestamp":`+hourAgo))
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	})
}
