/* What is known of this device. */
#ifndef OFA_TVM_DEVICE_INFO_H
#define OFA_TVM_DEVICE_INFO_H

/* JSON with the same keys as rpc/device_info.py, null where unknown; the caller frees it. `root` stands before /proc,
   /sys and /etc ("" for this device), `libraries` is the folder with the file "versions". */
char *device_info(const char *root, const char *libraries);

#endif
