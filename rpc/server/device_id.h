/* What tells this device from others, and stays. */
#ifndef OFA_TVM_DEVICE_ID_H
#define OFA_TVM_DEVICE_ID_H

#include <stdio.h>

/* The serial number in the device tree, else a hash of the machine id, which is not for others to see; null where there
   is neither. As JSON, the same as rpc/device_id.py says. */
void write_device_id(FILE *out, const char *root);

#endif
